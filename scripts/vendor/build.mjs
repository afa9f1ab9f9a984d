// Makes kmwatch/views/page/assets/vendor.min.js and LICENSES.txt: `npm ci && npm run build` in this directory.
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const assets = new URL("../../kmwatch/views/page/assets/", import.meta.url);
const here = (name) => new URL(name, import.meta.url);
const read = (name) => readFileSync(here(name), "utf8");

const result = await build({
  entryPoints: [here("vendor.js").pathname],
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "vendor",
  target: "es2020",
  charset: "ascii",
  legalComments: "none",
  loader: { ".css": "empty" }, // the page styles the flame graph itself, for both themes
  define: { "process.env.NODE_ENV": '"production"' },
  metafile: true,
  write: false,
});

/** The packages that are in the bundle, each with its version and licence. */
const inside = [
  ...new Set(Object.keys(result.metafile.inputs).map((path) => path.match(/node_modules\/([^/]+)\//)?.[1])),
]
  .filter(Boolean)
  .sort()
  .map((name) => ({ ...JSON.parse(read(`node_modules/${name}/package.json`)), name }));

const licence = (name) => {
  for (const file of ["LICENSE", "LICENSE.txt"]) {
    try {
      return read(`node_modules/${name}/${file}`).trim();
    } catch {
      // The next name.
    }
  }
  throw new Error(`${name} has no licence file`);
};

const header = inside.map((each) => `${each.name} ${each.version} (${each.license})`).join(", ");
const banner = `/*! ${header}. Licence texts: LICENSES.txt. Made by scripts/vendor/build.mjs. */\n`;
writeFileSync(new URL("vendor.min.js", assets), banner + result.outputFiles[0].text);

// Packages that share a text stand above it together.
const byText = new Map();
for (const each of inside) {
  const text = licence(each.name);
  byText.set(text, [...(byText.get(text) ?? []), each]);
}
const notice = read("node_modules/echarts/NOTICE").trim();
const parts = [...byText].map(([text, packages]) => {
  const names = packages.map((each) => `${each.name} ${each.version}`).join(", ");
  const told = packages.some((each) => each.name === "echarts") ? `${notice}\n\n` : "";
  return `${"=".repeat(100)}\n${names}\n${"=".repeat(100)}\n\n${told}${text}\n`;
});
writeFileSync(new URL("LICENSES.txt", assets), parts.join("\n"));
console.log(`${(result.outputFiles[0].text.length / 1024).toFixed(0)} KiB: ${header}`);
