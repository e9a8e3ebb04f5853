// One line for those who listen instead of looking: what has just happened.

export function say(text) {
  document.getElementById("status").textContent = text;
}
