// Numbers to words, as kmwatch/units.py writes them; the text of others, shown and not obeyed.

const number = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, " ");

function size(value) {
  const steps = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let amount = value;
  let step = 0;
  while (Math.abs(amount) >= 1024 && step < steps.length - 1) {
    amount /= 1024;
    step += 1;
  }
  return `${amount.toFixed(step ? 1 : 0)} ${steps[step]}`;
}

function short(value) {
  const suffixes = ["", "k", "M", "G", "T"];
  let amount = value;
  let step = 0;
  while (Math.abs(amount) >= (step ? 999.95 : 9999.5) && step < suffixes.length - 1) {
    amount /= 1000;
    step += 1;
  }
  return `${amount.toFixed(step || (amount % 1 && amount < 100) ? 1 : 0)}${suffixes[step]}`;
}

function seconds(value) {
  if (value < 10) return `${value.toFixed(value < 1 ? 2 : 1)} s`;
  const whole = Math.round(value);
  return whole < 120 ? `${whole} s` : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

/** A place on an axis of time whose slices have this length. */
function moment(value, length) {
  return value < 120 ? `${value.toFixed(length < 0.1 ? 2 : length < 1 ? 1 : 0)} s` : seconds(value);
}

const percent = (part, whole) => `${whole ? ((100 * part) / whole).toFixed(1) : "0.0"}%`;

/** What is a count and what are bytes. */
const shown = (measure, value) => (measure.startsWith("bytes") ? size(value) : number(value));

/** Without what has no shape or turns the direction of a line; at most so long. */
function plain(text, longest = 400) {
  const told = String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\uFFFD");
  return told.length <= longest ? told : `${told.slice(0, longest)}…`;
}

/** An element with a text or with children, nothing of which is read as HTML. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A text that may go to the next line behind `|` and `+`. */
const breakable = (text) => plain(text).split(/(?<=[|+])/).flatMap((part) => [part, element("wbr")]);

const byId = (id) => document.getElementById(id);
