// Renders the question, so that nothing but the server's own package is needed to serve it.
const fs = require("node:fs");
const { marked } = require("marked");

fs.mkdirSync("public", { recursive: true });
fs.writeFileSync("public/question.html", marked.parse(fs.readFileSync("question.md", "utf8")));
console.log("public/question.html is rendered");
