// Each file in pages/ becomes one in dist/, with links to all of them.
const fs = require("node:fs");
const path = require("node:path");
const { marked } = require("marked");

const names = fs.readdirSync("pages").filter((name) => name.endsWith(".md")).map((name) => path.parse(name).name).sort();
const links = names.map((name) => `<a href="${name}.html">${name === "index" ? "home" : name}</a>`).join(" · ");
fs.rmSync("dist", { recursive: true, force: true });
fs.mkdirSync("dist");
for (const name of names) {
  const body = marked.parse(fs.readFileSync(`pages/${name}.md`, "utf8"));
  const style = "body { font: 1.1rem Georgia, serif; max-width: 36rem; margin: 3rem auto }";
  const page = `<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Field notes</title>\n<style>${style}</style>\n`;
  fs.writeFileSync(`dist/${name}.html`, `${page}<nav>${links}</nav>\n${body}`);
}
console.log(`${names.length} pages are in dist/`);
