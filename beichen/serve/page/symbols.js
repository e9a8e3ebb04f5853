// LaTeX's names of signs, by what they are in a formula.

const pairs = (text) =>
  Object.fromEntries(
    text
      .trim()
      .split(/\s+/)
      .map((pair) => pair.split("=")),
  );

/** Letters: <mi>. */
export const LETTERS = pairs(`
  alpha=α beta=β gamma=γ delta=δ epsilon=ϵ varepsilon=ε zeta=ζ eta=η theta=θ vartheta=ϑ iota=ι kappa=κ lambda=λ mu=μ nu=ν xi=ξ omicron=ο
  pi=π varpi=ϖ rho=ρ varrho=ϱ sigma=σ varsigma=ς tau=τ upsilon=υ phi=ϕ varphi=φ chi=χ psi=ψ omega=ω
  Gamma=Γ Delta=Δ Theta=Θ Lambda=Λ Xi=Ξ Pi=Π Sigma=Σ Upsilon=Υ Phi=Φ Psi=Ψ Omega=Ω
  infty=∞ partial=∂ nabla=∇ hbar=ℏ ell=ℓ Re=ℜ Im=ℑ aleph=ℵ emptyset=∅ varnothing=∅ imath=ı jmath=ȷ degree=° angle=∠ triangle=△ square=□
  top=⊤ bot=⊥ checkmark=✓`);

/** Signs between and around letters: <mo>. */
export const OPERATORS = pairs(`
  times=× div=÷ cdot=⋅ pm=± mp=∓ ast=∗ star=⋆ circ=∘ bullet=∙ oplus=⊕ ominus=⊖ otimes=⊗ oslash=⊘ odot=⊙ wedge=∧ land=∧ vee=∨ lor=∨
  lnot=¬ neg=¬
  cap=∩ cup=∪ setminus=∖ leq=≤ le=≤ geq=≥ ge=≥ leqslant=⩽ geqslant=⩾ neq=≠ ne=≠ approx=≈ equiv=≡ cong=≅ sim=∼ simeq=≃ propto=∝
  ll=≪ gg=≫ prec=≺ succ=≻
  in=∈ notin=∉ ni=∋ subset=⊂ subseteq=⊆ subsetneq=⊊ supset=⊃ supseteq=⊇ forall=∀ exists=∃ nexists=∄ therefore=∴ because=∵ mid=∣
  nmid=∤ parallel=∥ perp=⟂
  to=→ rightarrow=→ leftarrow=← gets=← leftrightarrow=↔ Rightarrow=⇒ implies=⟹ Leftarrow=⇐ Leftrightarrow=⇔ iff=⟺ mapsto=↦
  longrightarrow=⟶ longleftarrow=⟵
  Longrightarrow=⟹ uparrow=↑ downarrow=↓ Uparrow=⇑ Downarrow=⇓ nearrow=↗ searrow=↘ hookrightarrow=↪ rightharpoonup=⇀ rightleftharpoons=⇌
  ldots=… dots=… cdots=⋯ vdots=⋮ ddots=⋱ dotsc=… dotsb=⋯ colon=: vdash=⊢ models=⊨ triangleq=≜ doteq=≐ asymp=≍ bowtie=⋈ backslash=∖ prime=′
  vert=| lvert=| rvert=| Vert=‖ lVert=‖ rVert=‖ langle=⟨ rangle=⟩ lfloor=⌊ rfloor=⌋ lceil=⌈ rceil=⌉ lbrace={ rbrace=} lbrack=[ rbrack=]`);

/** Signs that grow and carry their limits above and below where there is room. */
export const LARGE = pairs("sum=∑ prod=∏ coprod=∐ bigcup=⋃ bigcap=⋂ bigoplus=⨁ bigotimes=⨂ bigwedge=⋀ bigvee=⋁");
export const INTEGRALS = pairs("int=∫ iint=∬ iiint=∭ oint=∮");

/** Names in upright letters; those that carry limits below. */
export const FUNCTIONS = new Set(
  "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth exp log ln lg deg dim ker hom arg det gcd Pr".split(" "),
);
export const LIMITS = new Set("lim limsup liminf max min sup inf argmax argmin det gcd Pr".split(" "));

export const ACCENTS = pairs(
  "hat=^ widehat=^ bar=¯ overline=¯ vec=→ overrightarrow=→ tilde=~ widetilde=~ dot=˙ ddot=¨ check=ˇ breve=˘ overbrace=⏞",
);
export const BELOW = pairs("underline=_ underbrace=⏟");

/** Widths in em. */
export const SPACES = { ",": 0.17, ":": 0.22, ";": 0.28, "!": -0.17, " ": 0.33, quad: 1, qquad: 2, enspace: 0.5, thinspace: 0.17 };

export const FENCES = { ...pairs("(=( )=) [=[ ]=] {={ }=} |=| /=/"), ".": "", "|": "|", "\\|": "‖" };

const HOLES = {
  bb: { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" },
  script: { B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ", e: "ℯ", g: "ℊ", o: "ℴ" },
  fraktur: { C: "ℭ", H: "ℌ", I: "ℑ", R: "ℜ", Z: "ℨ" },
};
const STARTS = {
  bold: [0x1d400, 0x1d7ce],
  bb: [0x1d538, 0x1d7d8],
  script: [0x1d49c, null],
  fraktur: [0x1d504, null],
  sans: [0x1d5a0, 0x1d7e2],
  typewriter: [0x1d670, 0x1d7f6],
};

/** A letter or digit in another hand (Unicode's mathematical alphabets), as browsers draw it without fonts of ours. */
export function inHand(letter, hand) {
  const [letters, digits] = STARTS[hand];
  if (HOLES[hand]?.[letter]) return HOLES[hand][letter];
  if (/[A-Z]/.test(letter)) return String.fromCodePoint(letters + letter.charCodeAt(0) - 65);
  if (/[a-z]/.test(letter)) return String.fromCodePoint(letters + 26 + letter.charCodeAt(0) - 97);
  if (/[0-9]/.test(letter) && digits) return String.fromCodePoint(digits + Number(letter));
  return letter;
}
