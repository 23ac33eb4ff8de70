// Asks /api/state and /api/charts and shows them. Keeps no state of its own but the span of the charts.
"use strict";

// Containers of a service from which on their tiles are small.
const MANY = 8;
const MARK = { well: "✓", starting: "…", bad: "✕" };
const STATE_SECONDS = 5;
const CHART_SECONDS = 15;
let minutes = "15";

const byId = (id) => document.getElementById(id);

// An element with text and children; text is never taken for HTML.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const known = (value) => value !== null && value !== undefined;
const share = (value) => (known(value) ? `${Math.round(value * 100)} %` : "–");

function amount(value) {
  if (!known(value)) return "–";
  return value >= 100 || value === 0 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function seconds(value) {
  if (!known(value) || Number.isNaN(value)) return "–";
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
}

function bytes(value) {
  if (!known(value)) return "–";
  return value < 2 ** 30 ? `${Math.round(value / 2 ** 20)} MiB` : `${(value / 2 ** 30).toFixed(1)} GiB`;
}

function age(moment, now) {
  const passed = Math.max(0, Math.round(now - moment));
  if (passed < 60) return `${passed} s`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min`;
  if (passed < 86400) return `${Math.floor(passed / 3600)} h`;
  return `${Math.floor(passed / 86400)} d`;
}

const clock = (moment) => new Date(moment * 1000).toLocaleTimeString([], { hour12: false });

// What stands behind the name of the stack; in a Swarm without the numbers that only it needs.
function short(item, stack) {
  if (!item.node) return item.name.startsWith(`${stack}-`) ? item.name.slice(stack.length + 1) : item.name;
  const [, replica] = item.name.split(".");
  return /^[0-9]+$/.test(replica) ? `${item.service}.${replica}` : item.service;
}

const place = (item) => (item.node ? ` on ${item.node}` : "");

// The oldest moment that is looked at is no beginning.
const since = (item, now) => (item.since && now - item.since < 3500 ? `since ${clock(item.since)}` : "for more than an hour");

function tile(item, data) {
  const details = [`${item.name}${place(item)} ${item.words}`, `CPU ${share(item.cpu_share)} of its limit`, `memory ${bytes(item.memory)}`];
  const lines = [make("b", {}, `${MARK[item.level]} ${short(item, data.stack)}`)];
  if (item.node) lines.push(make("small", { class: "node" }, item.node));
  if (item.level !== "well") lines.push(make("small", {}, item.words));
  if (known(item.rate)) lines.push(make("small", {}, `${amount(item.rate)}/s`, item.errors ? `, ${amount(item.errors)} failed` : ""));
  if (known(item.memory)) lines.push(make("small", {}, `${share(item.cpu_share)} CPU, ${bytes(item.memory)}`));
  return make("div", { class: "tile", "data-level": item.level, "data-name": item.name, title: details.join("\n") }, ...lines);
}

function service(item, data) {
  const up = item.containers.filter((container) => container.level === "well").length;
  const figures = [];
  if (known(item.rate)) figures.push(item.service === "db" ? `${amount(item.rate)} queries/s` : `${amount(item.rate)} requests/s`);
  if (item.errors) figures.push(`${amount(item.errors)} failed/s`);
  if (known(item.p95) && !Number.isNaN(item.p95)) figures.push(`95 % within ${seconds(item.p95)}`);
  const size = Math.max(item.containers.length, item.wanted);
  const element = make(
    "li",
    { class: size > MANY ? "service many" : "service", "data-service": item.service },
    make("h3", {}, item.service, make("span", {}, `${up} of ${item.wanted}`)),
    make("p", { class: "figures" }, ...figures.map((text) => make("span", {}, text))),
    make("div", { class: "tiles" }, ...item.containers.map((container) => tile(container, data))),
  );
  // Room by the number of containers, so that many of them do not make a tower.
  element.style.flexGrow = String(size > 1 ? 2 * Math.min(size, MANY) : 1);
  return element;
}

function row(item, data) {
  const cells = [
    item.name + place(item),
    item.words,
    item.since ? since(item, data.time).replace("since ", "") : "–",
    amount(item.rate),
    amount(item.errors),
    known(item.response) ? seconds(item.response) : "–",
    known(item.cpu) ? `${item.cpu.toFixed(2)} (${share(item.cpu_share)})` : "–",
    `${bytes(item.memory)} (${share(item.memory_share)})`,
    amount(item.restarts),
    item.image,
  ];
  return make("tr", { "data-level": item.level, "data-name": item.name }, ...cells.map((text) => make("td", {}, text)));
}

function verdict(data) {
  const element = byId("verdict");
  const worst = data.troubles.some((trouble) => trouble.level === "bad") ? "bad" : data.troubles.length ? "starting" : "well";
  element.dataset.level = worst;
  const count = data.services.reduce((sum, item) => sum + item.containers.length, 0);
  const texts = data.troubles.slice(0, 3).map((trouble) => trouble.text + (trouble.since ? ` ${since(trouble, data.time)}` : ""));
  if (data.troubles.length > 3) texts.push(`and ${data.troubles.length - 3} more`);
  element.textContent = texts.length ? `${MARK[worst]} ${texts.join("; ")}` : `✓ All is well: ${count} containers.`;
}

function show(data) {
  document.title = `${data.troubles.length ? "✕ " : ""}${data.stack}`;
  byId("stack").textContent = data.stack;
  verdict(data);
  const inSketch = data.services.filter((item) => item.sketch);
  const beside = data.services.filter((item) => !item.sketch).flatMap((item) => item.containers);
  byId("topology").replaceChildren(make("li", { class: "entry" }, "http, https"), ...inSketch.map((item) => service(item, data)));
  byId("beside").replaceChildren(...beside.map((item) => make("li", {}, tile(item, data))));
  const alerts = data.alerts.map((alert) =>
    make(
      "li",
      { "data-level": alert.severity === "critical" ? "bad" : "starting" },
      make("time", {}, alert.since ? clock(alert.since) : ""),
      make("b", {}, alert.name),
      ` ${alert.about}`,
    ),
  );
  byId("alerts").replaceChildren(...(alerts.length ? alerts : [make("li", {}, "None.")]));
  const events = data.events.map((event) => make("li", {}, make("time", {}, clock(event.time)), event.text));
  byId("events").replaceChildren(...(events.length ? events : [make("li", {}, "Nothing has happened.")]));
  const rows = data.services.flatMap((item) => item.containers).map((item) => row(item, data));
  byId("containers").tBodies[0].replaceChildren(...rows);
}

function away(message) {
  document.body.classList.add("stale");
  const element = byId("verdict");
  element.dataset.level = "bad";
  element.textContent = `✕ ${message} What is shown below is old.`;
}

async function ask(path) {
  const answer = await fetch(path);
  const data = await answer.json();
  if (data.error) throw new Error(data.error);
  return data;
}

async function refresh() {
  try {
    show(await ask("/api/state"));
    document.body.classList.remove("stale");
  } catch (error) {
    away(error instanceof TypeError ? "The console does not answer." : error.message);
  }
}

function draw(data) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  for (const chart of data.charts) {
    const element = byId(`chart-${chart.name}`) || byId("charts").appendChild(make("div", { id: `chart-${chart.name}`, class: "chart" }));
    const lines = chart.lines.map((line) => ({
      name: line.name,
      x: line.points.map((point) => new Date(point[0] * 1000)),
      y: line.points.map((point) => point[1]),
      mode: "lines",
      line: { width: 1.5 },
      hovertemplate: `%{y:${chart.format}}${chart.unit}<extra>%{fullData.name}</extra>`,
    }));
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false };
    const layout = {
      title: { text: chart.title, font: { size: 14 }, x: 0.02 },
      font: { color: colour("--ink"), size: 11 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 50, r: 10, t: 35, b: 30 },
      showlegend: true,
      legend: { orientation: "h", y: -0.13 },
      hovermode: "x",
      xaxis: { ...axis, tickformat: "%H:%M", nticks: 5, range: [new Date(data.begin * 1000), new Date(data.end * 1000)] },
      yaxis: { ...axis, rangemode: "tozero", nticks: 5, ticksuffix: chart.unit, tickformat: chart.format },
    };
    Plotly.react(element, lines, layout, { displayModeBar: false, responsive: true });
  }
}

async function redraw() {
  try {
    draw(await ask(`/api/charts?minutes=${minutes}`));
  } catch {
    // The line at the top says what is wrong.
  }
}

byId("spans").addEventListener("click", (event) => {
  if (!event.target.dataset.minutes) return;
  minutes = event.target.dataset.minutes;
  for (const button of byId("spans").children) button.setAttribute("aria-pressed", String(button === event.target));
  redraw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// A page that nobody sees asks for nothing.
setInterval(() => document.hidden || refresh(), STATE_SECONDS * 1000);
setInterval(() => document.hidden || redraw(), CHART_SECONDS * 1000);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
redraw();
