// Elements from names, attributes and children. Text is set as text only: nothing here, or on this page, ever reads HTML.

/** make("button", {type: "button", on: {click: ...}}, "text", child): attributes that are null or false are left out. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for MathML. */
export function makeMath(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/1998/Math/MathML", tag), attributes, children);
}

function fill(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const SHAPES = {
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M4 12l5 5L20 6",
  redo: "M20 11a8 8 0 1 0-2 6M20 4v7h-7",
  pencil: "M4 20h4L20 8l-4-4L4 16zM14 6l4 4",
  bin: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  up: "M12 20V5M5 12l7-7 7 7",
  down: "M12 4v15M5 12l7 7 7-7",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  square: "M7 7h10v10H7z",
  close: "M6 6l12 12M18 6L6 18",
  language: "M3 6h10M8 3v3M11 6c-1 5-4 8-8 10M5 9c1 3 4 6 7 7M13 21l4-10 4 10M14.5 18h5",
  theme: "M20 14A8.5 8.5 0 0 1 10 4a8.5 8.5 0 1 0 10 10z",
  save: "M12 4v11M7 10l5 5 5-5M5 20h14",
  star: "M12 2c.6 6 4 9.4 10 10-6 .6-9.4 4-10 10-.6-6-4-9.4-10-10 6-.6 9.4-4 10-10z",
};

/** A line drawing of 24 by 24, of the colour of the text around it; a picture for the eye alone. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const [svg, path] = [document.createElementNS(space, "svg"), document.createElementNS(space, "path")];
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon ${name}`);
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

/** A button that is a picture, with its name for those who hover over it or listen. */
export function iconButton(name, label, click, attributes = {}) {
  return make("button", { type: "button", class: "tool", "aria-label": label, title: label, on: { click }, ...attributes }, icon(name));
}
