// The dashboard: asks the status API every two seconds and draws what it says. It holds no state but the token and the chosen fleet.
"use strict";

const HEIGHT = 200, LEFT = 52, RIGHT = 8, TOP = 10, BOTTOM = 24, NARROW = 560, EVERY_MS = 2000;
const at = (id) => document.getElementById(id);
let token = sessionStorage.getItem("tidegate-token") || "";
let chosen = decodeURIComponent(location.hash.slice(1));

// What comes from events is only ever set as text, never as markup.
function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const shown = (value, digits = 1) => (value === null || value === undefined ? "–" : Number(value).toLocaleString("en", { maximumFractionDigits: digits }));
const clock = (seconds, withDay = false) => new Date(seconds * 1000).toISOString().slice(withDay ? 5 : 11, withDay ? 16 : 19).replace("T", " ");

async function ask(path) {
  const answer = await fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  at("ask").hidden = answer.status !== 401;
  if (!answer.ok) throw new Error(answer.status === 401 ? "a token is needed" : `the API answers ${answer.status}`);
  return answer.json();
}

// The round number at or above a quarter of what is to be shown: 1, 2, 2.5, 5 or 10 times a power of ten.
function tick(top) {
  const quarter = Math.max(top, 1e-9) / 4, power = 10 ** Math.floor(Math.log10(quarter));
  return power * [1, 2, 2.5, 5, 10].find((step) => step * power >= quarter * 0.999);
}

class Chart {
  constructor(svg, from, to, top) {
    // Drawn in the page's own pixels, so that the letters are as large on a telephone.
    this.width = Math.max(svg.clientWidth, 260);
    const step = tick(top), parts = this.width < NARROW ? 2 : 4;
    this.svg = svg; this.from = from; this.span = Math.max(to - from, 1); this.top = 4 * step;
    svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    svg.replaceChildren();
    for (let part = 0; part <= 4; part++) {
      const y = this.y(step * part);
      svg.append(drawn("line", { class: "axis", x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }));
      svg.append(drawn("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, shown(step * part, step < 1 ? 4 : 1)));
    }
    for (let part = 0; part <= parts; part++) {
      const when = from + (this.span * part) / parts;
      svg.append(drawn("text", { x: this.x(when), y: HEIGHT - 5, "text-anchor": part === 0 ? "start" : part === parts ? "end" : "middle" }, clock(when, this.span > 86400)));
    }
  }
  x(when) { return LEFT + ((when - this.from) / this.span) * (this.width - LEFT - RIGHT); }
  y(value) { return HEIGHT - BOTTOM - (Math.min(value, this.top) / this.top) * (HEIGHT - TOP - BOTTOM); }
  // A value that is not known leaves a gap: it is not drawn as zero.
  line(points, kind) {
    let path = "", pen = "M";
    for (const [when, value] of points) {
      if (value === null || value === undefined) { pen = "M"; continue; }
      path += `${pen}${this.x(when).toFixed(1)} ${this.y(value).toFixed(1)}`; pen = "L";
    }
    this.svg.append(drawn("path", { class: kind, d: path }));
  }
  area(points, kind) {
    const known = points.filter(([, low, high]) => low !== null && low !== undefined && high !== null && high !== undefined);
    if (!known.length) return;
    const up = known.map(([when, , high]) => `${this.x(when).toFixed(1)} ${this.y(high).toFixed(1)}`);
    const down = known.map(([when, low]) => `${this.x(when).toFixed(1)} ${this.y(low).toFixed(1)}`).reverse();
    this.svg.append(drawn("path", { class: kind, d: `M${up.concat(down).join("L")}Z` }));
  }
  now(when) { this.svg.append(drawn("line", { class: "now", x1: this.x(when), x2: this.x(when), y1: TOP, y2: HEIGHT - BOTTOM })); }
}

function ahead(forecast, until) {
  if (!forecast) return [];
  const made = Date.parse(forecast.time) / 1000;
  const near = (wanted) => forecast.quantiles.reduce((best, value, index) => (Math.abs(value - wanted) < Math.abs(forecast.quantiles[best] - wanted) ? index : best), 0);
  const [low, middle, high] = [0.05, 0.5, 0.95].map(near);
  const rows = forecast.horizons_seconds.map((seconds, row) => [made + seconds, ...[low, middle, high].map((q) => forecast.demand_per_second[row][q])]);
  return rows.filter(([when]) => when <= until);
}

function drawDemand(fleet) {
  const points = fleet.points;
  if (!points.length) return at("demand").replaceChildren(drawn("text", { x: 40, y: 40 }, "no decision yet"));
  const first = points[0].time, last = points[points.length - 1].time;
  const until = last + Math.max((last - first) / 2, 1800), future = ahead(fleet.forecast, until);
  // What was expected of each moment, the lead time before it.
  const past = points.map((point) => [point.time + (point.ahead_seconds || 0), ...point.band]).filter(([when]) => when <= last);
  const values = [...points.map((point) => point.demand), ...past.map((row) => row[3]), ...future.map((row) => row[3])];
  const chart = new Chart(at("demand"), first, until, Math.max(0, ...values.filter((value) => value !== null)));
  for (const rows of [past, future]) {
    chart.area(rows.map(([when, low, , high]) => [when, low, high]), "band");
    chart.line(rows.map(([when, , middle]) => [when, middle]), "middle");
  }
  chart.line(points.map((point) => [point.time, point.demand]), "demand");
  chart.now(last);
}

function drawCapacity(fleet) {
  const points = fleet.points;
  if (!points.length) return at("capacity").replaceChildren();
  const rows = points.map(({ time, capacity: { floor, burst }, spilled, demand }) => ({ time, demand, tops: [floor, floor + burst, floor + burst + (spilled || 0)] }));
  const highest = Math.max(0, ...rows.flatMap((row) => [...row.tops, row.demand || 0]));
  const chart = new Chart(at("capacity"), rows[0].time, rows[rows.length - 1].time, highest);
  ["floor", "burst", "spill"].forEach((tier, index) => {
    chart.area(rows.map((row) => [row.time, index ? row.tops[index - 1] : 0, row.tops[index]]), tier);
  });
  chart.line(rows.map((row) => [row.time, row.demand]), "demand");
}

function fill(id, rows) {
  at(id).replaceChildren(...rows.map((cells) => {
    const row = element("tr");
    row.append(...cells.map(([text, kind]) => element("td", text, kind)));
    return row;
  }));
}

// Only the stages that moved a target or say why; an offer's number is shown as before→after where it moved.
function drawStages(fleet) {
  const { stages = [], time = "" } = fleet.decision || {}, names = fleet.offers.map((offer) => offer.name);
  at("made").textContent = fleet.decision ? `${time.slice(0, 19).replace("T", " ")} UTC, cause: ${fleet.decision.cause}; replicas` : "";
  const head = element("tr");
  head.append(...["stage", ...names, "why"].map((name) => element("th", name)));
  at("stage-names").replaceChildren(head);
  const telling = stages.filter((stage) => stage.reasons.length || names.some((name) => stage.before[name] !== stage.after[name]));
  fill("stages", telling.map(({ name, before, after, reasons }) => [
    [name, "narrow"],
    ...names.map((offer) => [before[offer] === after[offer] ? shown(after[offer], 0) : `${shown(before[offer], 0)}→${shown(after[offer], 0)}`, "narrow"]),
    [reasons.map((reason) => fleet.reason_words[reason] || reason).join("; ")],
  ]));
}

function drawWords(fleet, made) {
  const told = [...new Set(made.flatMap((decision) => decision.reasons))].sort();
  at("words").replaceChildren(...told.flatMap((reason) => [element("dt", reason), element("dd", fleet.reason_words[reason] || "")]));
}

function show(fleet) {
  const decision = fleet.decision, made = fleet.decisions.slice(0, 15);
  at("mode").textContent = fleet.mode;
  at("carried").textContent = `${fleet.unit} per second that ready replicas carry within the SLO`;
  at("unit").textContent = `${fleet.unit} per second${fleet.model ? ` · ${fleet.model}` : ""}`;
  const ready = fleet.offers.reduce((sum, offer) => sum + (offer.ready || 0), 0), pending = fleet.offers.reduce((sum, offer) => sum + (offer.pending || 0), 0);
  const numbers = [
    ["offered", `${shown(decision && decision.demand_per_second)} /s`], ["waiting", shown(decision && decision.backlog)],
    ["replicas ready", shown(ready, 0)], ["pending", shown(pending, 0)],
    ...[["TTFT", fleet.slo.ttft_attained_share, fleet.slo.ttft_seconds], ["ITL", fleet.slo.itl_attained_share, fleet.slo.itl_seconds]]
      .filter(([, share]) => share !== null)
      .map(([name, share, bound]) => [`${name} within ${shown(bound, 3)} s, aim ${shown(100 * fleet.slo.attainment, 2)} %`, `${shown(100 * share, 2)} %`]),
    ["spill allowed", `${shown(decision && decision.spill_per_second)} /s`], ["targets cost", `${shown(decision && decision.usd_per_hour, 2)} USD/h`],
  ];
  at("numbers").replaceChildren(...numbers.map(([name, value]) => { const box = element("div"); box.append(element("b", value), element("span", name)); return box; }));
  fill("offers", fleet.offers.map((offer) => [
    [offer.tier, "narrow"], [offer.name, "narrow"], [shown(offer.target, 0)], [shown(offer.ready, 0)], [shown(offer.pending, 0)], [shown(offer.usd_per_replica_hour, 2)],
    offer.unavailable ? [`not available${offer.message ? `: ${offer.message}` : ""}`, "bad"] : offer.ready === null ? ["not seen yet"] : offer.ready + offer.pending === offer.target ? ["as decided", "good"] : ["on its way"],
  ]));
  at("alerting").hidden = !fleet.alerts.length;
  fill("alerts", fleet.alerts.map((alert) => [[alert.name], [alert.action + (alert.lift_replicas ? ` +${alert.lift_replicas}` : "")], [(alert.expires || "").slice(11, 19)], [alert.summary]]));
  fill("decisions", made.map((one) => [[one.time.slice(5, 19).replace("T", " "), "narrow"], [one.cause, "narrow"], [one.summary.replace(/ \([^()]*\)$/, "")], [one.reasons.join(", ")]]));
  drawStages(fleet);
  drawWords(fleet, made);
  drawDemand(fleet);
  drawCapacity(fleet);
}

async function round() {
  try {
    const { fleets } = await ask("api/fleets");
    const names = fleets.map((fleet) => fleet.fleet);
    if (!names.includes(chosen)) chosen = names[0];
    if (at("fleet").options.length !== names.length) at("fleet").replaceChildren(...names.map((name) => element("option", name)));
    at("fleet").value = chosen;
    const fleet = await ask(`api/fleets/${encodeURIComponent(chosen)}`);
    show(fleet);
    const when = (event) => `${event.time.slice(0, 19).replace("T", " ")} UTC`;
    at("state").textContent = fleet.decision ? `newest decision ${when(fleet.decision)}` : "no decision yet";
    at("state").textContent += fleet.observation ? `, newest observation ${when(fleet.observation)}` : ", nothing observed yet";
    at("state").className = "";
  } catch (error) {
    at("state").textContent = error.message;
    at("state").className = "bad";
  }
}

at("fleet").addEventListener("change", (event) => { chosen = event.target.value; location.hash = encodeURIComponent(chosen); round(); });
at("ask").addEventListener("submit", (event) => { event.preventDefault(); token = at("token").value; sessionStorage.setItem("tidegate-token", token); round(); });
(async () => { for (;;) { if (!document.hidden) await round(); await new Promise((done) => setTimeout(done, EVERY_MS)); } })();
