// Asks /api and shows it. What it keeps itself is the time of the charts, which stands in the page's address.
"use strict";

// Containers of a service from which on their tiles are small.
const MANY = 8;
const MARK = { well: "✓", starting: "…", bad: "✕" };
const LEVEL = { well: "well", starting: "attention", bad: "out" };
const STATE_SECONDS = 5;
const PAST_SECONDS = 15;
// The last class of response times ends here.
const SLOW = 10;
let shown = false;

const byId = (id) => document.getElementById(id);

// An element with text and children; text is never taken for HTML.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Puts children in the place of others; who was on one of them with the keyboard is on its successor.
function fill(parent, ...children) {
  const focused = parent.contains(document.activeElement) && document.activeElement.dataset.key;
  parent.replaceChildren(...children);
  if (focused) parent.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

// A text that has not changed is not read out again.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const known = (value) => value !== null && value !== undefined;
const share = (value) => (known(value) ? `${Math.round(value * 100)} %` : "–");

function amount(value) {
  if (!known(value)) return "–";
  return value >= 100 || value === 0 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function seconds(value) {
  if (!known(value)) return "–";
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
}

const bytes = (value) => (known(value) ? `${Math.round(value / 2 ** 20).toLocaleString("en")} MiB` : "–");

// A time of the day, and the day where it is another one than today.
function clock(moment) {
  const date = new Date(moment * 1000);
  const day = date.toDateString() === new Date().toDateString() ? "" : `${local(moment).slice(0, 10)} `;
  return day + date.toLocaleTimeString([], { hour12: false });
}

// As fields of a form want it.
function local(moment) {
  const date = new Date(moment * 1000);
  return new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

const since = (item) => (item.since ? ` since ${clock(item.since)}` : "");
const time = (moment) => make("time", { datetime: new Date(moment * 1000).toISOString() }, clock(moment));
// Services beyond the colours that there are share one.
const tinted = (colour) => ({ style: `--tier: var(--${colour}, var(--monitoring))` });
const guide = (section) => make("a", { href: `/runbook#${section}` }, "What to do");

// What stands behind the name of the stack; in a Swarm without the numbers that only it needs.
function short(item, stack) {
  if (!item.node) return item.name.startsWith(`${stack}-`) ? item.name.slice(stack.length + 1) : item.name;
  const [, replica] = item.name.split(".");
  return /^[0-9]+$/.test(replica) ? `${item.service}.${replica}` : item.service;
}

function tile(item, data) {
  const mark = [make("span", { "aria-hidden": "true" }, MARK[item.level]), make("span", { class: "hidden" }, LEVEL[item.level])];
  const lines = [make("b", {}, ...mark, ` ${short(item, data.stack)}`)];
  if (item.node) lines.push(make("small", { class: "node" }, item.node));
  if (item.level !== "well") lines.push(make("small", {}, item.words));
  if (known(item.rate)) {
    const failed = item.errors ? [make("span", { class: "failed" }, `, ${amount(item.errors)} failed`)] : [];
    lines.push(make("small", {}, `${amount(item.rate)}/s`, ...failed));
  }
  if (known(item.memory)) lines.push(make("small", {}, `${share(item.cpu_share)} CPU, ${bytes(item.memory)}`));
  const attributes = { type: "button", class: "tile", "data-level": item.level, "data-name": item.name, "data-key": item.name };
  return make("button", { ...attributes, "aria-haspopup": "dialog" }, ...lines);
}

function service(item, data) {
  const up = item.containers.filter((container) => container.level === "well").length;
  const figures = [];
  if (known(item.rate)) figures.push(make("span", {}, `${amount(item.rate)} ${item.service === "db" ? "queries" : "requests"}/s`));
  if (item.errors) figures.push(make("span", { class: "failed" }, `${amount(item.errors)} failed/s`));
  if (item.refused) figures.push(make("span", { class: "failed" }, `${amount(item.refused)} refused/s`));
  if (item.queue) figures.push(make("span", {}, `${item.queue} waiting`));
  if (known(item.p95)) figures.push(make("span", {}, item.p95 < SLOW ? `95 % within ${seconds(item.p95)}` : `5 % take over ${SLOW} s`));
  if (item.fails_open) figures.push(make("span", { class: "failed" }, "fails open: failed checks take no replica out"));
  const size = Math.max(item.containers.length, item.wanted);
  const element = make(
    "li",
    { class: size > MANY ? "service many" : "service", "data-service": item.service, ...tinted(item.colour) },
    make("h3", {}, item.service, make("span", {}, `${up} of ${item.wanted}`)),
    make("p", { class: "figures" }, ...figures),
    make("div", { class: "tiles" }, ...item.containers.map((container) => tile(container, data))),
  );
  // Room by the number of containers, so that many of them do not make a tower.
  element.style.flexGrow = String(size > 1 ? 2 * Math.min(size, MANY) : 1);
  return element;
}

function row(item, colour) {
  const cells = [
    item.words,
    item.since ? clock(item.since) : "–",
    amount(item.rate),
    amount(item.errors),
    seconds(item.response),
    known(item.cpu) ? `${item.cpu.toFixed(2)} (${share(item.cpu_share)})` : "–",
    `${bytes(item.memory)} (${share(item.memory_share)})`,
    amount(item.restarts),
    item.image,
  ];
  const name = make("td", tinted(colour), item.node ? `${item.name} on ${item.node}` : item.name);
  return make("tr", { "data-level": item.level, "data-name": item.name }, name, ...cells.map((text) => make("td", {}, text)));
}

// The worst first, what to do about it, and the rest below.
function verdict(data) {
  let [worst, ...more] = data.troubles;
  let level = worst ? worst.level : "well";
  const count = data.services.reduce((sum, item) => sum + item.containers.length, 0);
  let text = worst ? worst.text + since(worst) : `All is well: ${count} containers.`;
  if (data.work && level !== "bad") {
    [worst, more, level] = [null, data.troubles, "starting"];
    text = `A change is at work: ${data.work.text}`;
  } else if (data.work) {
    more = [{ text: `A change is at work: ${data.work.text}` }, ...more];
  }
  byId("state").dataset.level = level;
  say(byId("verdict"), `${MARK[level]} ${text}`);
  const summary = worst && worst.summary ? [`${worst.summary} `] : [];
  fill(byId("advice"), ...(worst ? [...summary, guide(worst.runbook)] : []));
  fill(byId("more"), ...more.map((item) => make("li", {}, item.text + since(item), " ", ...(item.runbook ? [guide(item.runbook)] : []))));
}

function show(data) {
  shown = true;
  document.title = `${data.troubles.length ? "✕ " : ""}${data.stack}`;
  say(byId("stack"), data.stack);
  verdict(data);
  const inSketch = data.services.filter((item) => item.sketch);
  const beside = data.services.filter((item) => !item.sketch).flatMap((item) => item.containers);
  fill(byId("topology"), make("li", { class: "entry" }, "http, https"), ...inSketch.map((item) => service(item, data)));
  fill(byId("beside"), ...beside.map((item) => make("li", {}, tile(item, data))));
  const alerts = data.alerts.map((alert) =>
    make(
      "li",
      { "data-level": alert.severity === "critical" ? "bad" : "starting" },
      time(alert.since),
      make("b", {}, alert.name),
      ` ${alert.about} ${alert.summary} `,
      guide(alert.name.toLowerCase()),
    ),
  );
  fill(byId("alerts"), ...(alerts.length ? alerts : [make("li", {}, "None.")]));
  fill(byId("containers").tBodies[0], ...data.services.flatMap((item) => item.containers.map((container) => row(container, item.colour))));
}

function away(message, moment) {
  document.body.classList.add("stale");
  byId("state").dataset.level = "bad";
  say(byId("verdict"), `✕ No data${moment ? ` since ${clock(moment)}` : ""}: ${message}${shown ? " What is shown below is old." : ""}`);
  fill(byId("advice"), guide("scrapemissing"));
  fill(byId("more"));
}

class Refusal extends Error {}

async function ask(path) {
  const data = await (await fetch(path)).json();
  if (data.error) throw Object.assign(new Refusal(data.error), { since: data.since });
  return data;
}

let answered = null;

async function refresh() {
  try {
    const data = await ask("/api/state");
    answered = data.time;
    show(data);
    document.body.classList.remove("stale");
  } catch (error) {
    if (error instanceof Refusal) away(error.message, error.since);
    else away("The console does not answer.", answered);
  }
}

// The time that is shown: {last} seconds, or from {begin} to {end}; as in the page's address.
let range = Object.fromEntries(new URLSearchParams(location.search));
if (!range.last && !(range.begin && range.end)) range = { last: "3600" };

function choose(wanted) {
  range = wanted;
  history.replaceState(null, "", `?${new URLSearchParams(range)}`);
  redraw();
}

function list(items, nothing) {
  if (!items.length) return [make("li", {}, nothing)];
  const level = (event) => (event.kind === "failed" ? { "data-level": "bad" } : {});
  return items.map((event) => make("li", {}, time(event.time), make("span", level(event), event.text)));
}

function draw(data) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const date = (moment) => new Date(moment * 1000);
  const marks = data.marks.map((mark) => ({ ...mark, at: date(mark.time) }));
  for (const chart of data.charts) {
    const element = byId(`chart-${chart.name}`) || byId("charts").appendChild(make("div", { id: `chart-${chart.name}`, class: "chart", role: "img" }));
    const lines = chart.lines.map((line) => ({
      name: line.name,
      ...points(line.points, data.step),
      mode: "lines",
      line: { width: 1.5, color: colour(`--${line.colour}`) || colour("--monitoring"), dash: line.dashed ? "dot" : "solid" },
      hovertemplate: `%{y:${chart.format}}${chart.unit}<extra>%{fullData.name}</extra>`,
    }));
    const newest = chart.lines.filter((line) => line.points.length).map((line) => `${line.name} ${amount(line.points.at(-1)[1])}${chart.unit}`);
    element.setAttribute("aria-label", `${chart.title}, at last: ${newest.join(", ") || "no data"}`);
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
      // A chart without data does not know what its axis is of.
      xaxis: { ...axis, type: "date", tickformat: data.end - data.begin > 2 * 86400 ? "%b %d" : "%H:%M", nticks: 5, range: [date(data.begin), date(data.end)] },
      yaxis: { ...axis, automargin: true, rangemode: "tozero", nticks: 5, ticksuffix: chart.unit, tickformat: chart.format },
      // Deployments; what a mark is, is said where one points at it, and in the list of events.
      shapes: marks.map((mark) => ({ type: "line", x0: mark.at, x1: mark.at, yref: "paper", y0: 0, y1: 1, line: { color: colour("--soft"), width: 1, dash: "dash" } })),
      annotations: marks.map((mark) => ({ x: mark.at, yref: "paper", y: 1, yanchor: "bottom", showarrow: false, text: "▾", font: { color: colour("--ink"), size: 13 }, hovertext: `${clock(mark.time)} ${plain(mark.text)}` })),
    };
    Plotly.react(element, lines, layout, { displayModeBar: false, responsive: true });
  }
  fill(byId("events"), ...list(data.events, "Nothing has happened."));
  fill(byId("releases"), ...list(data.releases, "None since this is written down."));
  for (const [name, moment] of [["begin", data.begin], ["end", data.end]]) {
    if (!document.activeElement.matches("#range input")) byId(name).value = local(moment);
  }
  for (const button of byId("spans").children) button.setAttribute("aria-pressed", String(button.dataset.last === range.last));
}

// Where there is no data, there is no line.
function points(found, step) {
  const [x, y] = [[], []];
  for (const [place, [moment, value]] of found.entries()) {
    if (place && moment - found[place - 1][0] > 2 * step) {
      x.push(new Date((moment - step) * 1000));
      y.push(null);
    }
    x.push(new Date(moment * 1000));
    y.push(value);
  }
  return { x, y };
}

// The charts take a few tags for formatting.
const plain = (text) => text.replaceAll("<", "‹").replaceAll(">", "›");

async function redraw() {
  try {
    draw(await ask(`/api/past?${new URLSearchParams(range)}`));
    say(byId("past-note"), "");
  } catch (error) {
    // What concerns all of the page is said at the top.
    if (error instanceof Refusal) say(byId("past-note"), error.message);
  }
}

async function requests() {
  const note = byId("requests-note");
  try {
    const data = await ask("/api/requests");
    const rows = data.requests.map((item) => {
      const statuses = Object.entries(item.statuses).map(([status, count]) => `${status === "-1" ? "no answer" : status} × ${count}`);
      const failed = make("td", item.failed ? { class: "failed" } : {}, String(item.failed));
      const cells = [statuses.join(", "), seconds(item.seconds / item.requests), seconds(item.slowest)].map((text) => make("td", {}, text));
      return make("tr", {}, make("td", {}, item.path), make("td", {}, String(item.requests)), failed, ...cells);
    });
    fill(byId("requests").tBodies[0], ...rows);
    say(note, rows.length ? "" : "There were no requests.");
  } catch (error) {
    fill(byId("requests").tBodies[0]);
    say(note, error instanceof Refusal ? error.message : "The console does not answer.");
  }
  note.hidden = !note.textContent;
  byId("requests").parentElement.hidden = !note.hidden;
}

// The tile that it was opened from may have been replaced meanwhile.
byId("log").addEventListener("close", (event) => document.querySelector(`.tile[data-key="${CSS.escape(event.target.dataset.of)}"]`)?.focus());

async function openLog(name) {
  const lines = byId("log-lines");
  say(byId("log-title"), `The end of the log of ${name}`);
  lines.textContent = "…";
  byId("log").dataset.of = name;
  byId("log").showModal();
  try {
    const data = await ask(`/api/log?${new URLSearchParams({ name })}`);
    lines.textContent = data.lines.map((line) => `${line.time ? clock(line.time) : ""} ${line.text}`).join("\n") || "It has written nothing.";
    lines.scrollTop = lines.scrollHeight;
  } catch (error) {
    lines.textContent = error instanceof Refusal ? error.message : "The console does not answer.";
  }
}

document.querySelector("main").addEventListener("click", (event) => {
  const name = event.target.closest(".tile")?.dataset.name;
  if (name) openLog(name);
});
byId("spans").addEventListener("click", (event) => {
  if (event.target.dataset.last) choose({ last: event.target.dataset.last });
});
byId("range").addEventListener("submit", (event) => {
  event.preventDefault();
  const [begin, end] = ["begin", "end"].map((name) => String(new Date(byId(name).value) / 1000));
  choose({ begin, end });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// A page that nobody sees asks for nothing.
function past() {
  redraw();
  requests();
}
setInterval(() => document.hidden || refresh(), STATE_SECONDS * 1000);
setInterval(() => document.hidden || past(), PAST_SECONDS * 1000);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
past();
