// A poll in memory: everyone who looks on sees each vote at once, over a WebSocket.
const fs = require("node:fs");
const http = require("node:http");
const { WebSocketServer } = require("ws");

const votes = { tabs: 0, spaces: 0 };
const question = fs.readFileSync("public/question.html", "utf8");

const page = () => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Poll</title>
<style>body { font: 1.1rem system-ui; max-width: 32rem; margin: 4rem auto } button { font: inherit }</style>
${question}
<p>${Object.keys(votes).map((name) => `<button value="${name}">${name}: <b>${votes[name]}</b></button>`).join(" ")}</p>
<script>
  const line = new WebSocket(location.origin.replace("http", "ws"));
  line.onmessage = ({ data }) => {
    for (const [name, count] of Object.entries(JSON.parse(data)))
      document.querySelector("[value=" + name + "] b").textContent = count;
  };
  document.onclick = ({ target }) => { const b = target.closest("button"); if (b) line.send(b.value); };
</script>`;

const server = http.createServer((request, response) => {
  if (request.url === "/health") return response.end("ok\n");
  if (request.url === "/votes") return response.end(JSON.stringify(votes) + "\n");
  if (request.url !== "/") return response.writeHead(404).end("There is only the poll.\n");
  response.setHeader("content-type", "text/html; charset=utf-8");
  response.end(page());
});

const lines = new WebSocketServer({ server, maxPayload: 64 });
lines.on("connection", (line) => {
  line.on("error", () => {});
  line.send(JSON.stringify(votes));
  line.on("message", (data) => {
    const name = data.toString();
    if (!Object.hasOwn(votes, name)) return;
    votes[name] += 1;
    console.log(`a vote for ${name}, ${votes[name]} now`);
    for (const other of lines.clients) other.send(JSON.stringify(votes));
  });
});

process.on("SIGTERM", () => {
  console.log("stopping");
  for (const line of lines.clients) line.close(1001);
  server.close(() => process.exit(0));
});
server.listen(process.env.PORT || 3000, "0.0.0.0", () => console.log(`the poll is open (${process.env.NODE_ENV})`));
