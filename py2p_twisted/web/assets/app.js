/*
 * The status page: what a node tells (/events), drawn.
 *
 *     /events --> Stream --> Mesh  (nodes and links)  --> Layout --> Picture (canvas)
 *                      \--> panels (lists, counters, messages), send box --> POST /send
 *
 * Whatever comes from a peer (ids, addresses, packets, reasons) becomes text by textContent or
 * fillText alone. Nothing is drawn while nothing moves.
 *
 * Times: "now" is performance.now(), in milliseconds; the node's own times are in seconds.
 */
"use strict";

(() => {
  const MOST_MESSAGES = 200; // that are shown
  const MOST_ROWS = 500; // of a list
  const MOST_NODES = 2000; // that are drawn: each pushes each other, and anybody can name many
  const MOST_LINKS = 20000; // of others
  const HISTORY = 60; // seconds of the little curves
  const MEAN = 4; // seconds of the numbers above them
  const SILENCE = 6000; // without a word, while one comes every second: the connection is lost
  const RETRY = [500, 1000, 2000, 4000, 8000];
  const CONFIRM = 10; // seconds
  const PREFIX = 12; // characters of an id that a survey may cut it to

  // --- small things ---------------------------------------------------------------------------

  const $ = (id) => document.getElementById(id);

  function make(tag, name, text) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  const text = (value) => (typeof value === "string" ? value : value == null ? "" : String(value));
  const number = (value) => (Number.isFinite(value) ? value : 0);
  const list = (value) => (Array.isArray(value) ? value : []);
  const short = (id) => (id.length > 10 ? id.slice(0, 8) : id);
  const many = (count, one, more) => `${count} ${count === 1 ? one : more || one + "s"}`;
  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

  function amount(value) {
    if (value === 0) return "0";
    if (value < 9.95) return value.toFixed(1).replace(/\.0$/, "");
    if (value < 9999.5) return String(Math.round(value));
    return value < 999500 ? `${Math.round(value / 1000)}k` : `${(value / 1e6).toFixed(1)}M`;
  }

  function size(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    while (value >= 1000 && at < units.length - 1) {
      value /= 1024;
      at += 1;
    }
    return `${at && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
  }

  function span(seconds) {
    if (seconds < 60) return `${Math.floor(seconds)} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
    return `${Math.floor(seconds / 86400)} days`;
  }

  function milliseconds(seconds) {
    if (seconds == null || !Number.isFinite(seconds)) return "–";
    const value = seconds * 1000;
    return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
  }

  /** A number from 0 to 1 that is always the same for a text. */
  function hash(of) {
    let value = 2166136261;
    for (let at = 0; at < of.length; at += 1) value = Math.imul(value ^ of.charCodeAt(at), 16777619);
    value = Math.imul(value ^ (value >>> 15), 2246822507);
    return ((value ^ (value >>> 13)) >>> 0) / 4294967296;
  }

  /** Call a function soon, but not more often than that. */
  function seldom(wait, call) {
    let timer = 0;
    return () => {
      timer ||= setTimeout(() => {
        timer = 0;
        call();
      }, wait);
    };
  }

  /** What a browser keeps for us, if it keeps anything. */
  const kept = {
    get(store, key) {
      try {
        return window[store].getItem(key);
      } catch {
        return null;
      }
    },
    set(store, key, value) {
      try {
        if (value) window[store].setItem(key, value);
        else window[store].removeItem(key);
      } catch {
        // then it is forgotten with the page
      }
    },
  };

  const still = window.matchMedia("(prefers-reduced-motion: reduce)");

  // --- the mesh: nodes and links as they are known ----------------------------------------------

  const FADE = 7000; // a node that is gone is shown for so long
  const LINK_FADE = 1800;
  const GLOW = 2600; // so long a new link glows
  const VISIT = 4000; // who is gone sooner than that has merely had a look, such as a py2p send
  const PATIENCE = 2; // surveys in a row that a node may be missing from, if they are not complete

  // Words for ends of links that say nothing about whoever was there. Source: docs/api/errors.rst.
  const POLITE = new Set(["view full", "probe ended", "disconnected", "duplicate connection", "too many peers"]);

  class Mesh {
    constructor() {
      this.nodes = new Map();
      this.links = new Map();
      this.clear("");
    }

    clear(own) {
      this.own = own;
      this.survey = null;
      this.peers = [];
      this.left = 0; // nodes that are not drawn
      this.surveys = 0;
      this.nodes.clear();
      this.links.clear();
      this.version = (this.version || 0) + 1;
      if (own) this.change();
    }

    get alive() {
      return [...this.nodes.values()].filter((node) => !node.gone);
    }

    get current() {
      return [...this.links.values()].filter((link) => !link.gone);
    }

    setPeers(rows) {
      this.peers = rows;
      this.change();
    }

    setSurvey(survey) {
      this.survey = survey;
      this.surveys += 1;
      for (const node of this.nodes.values()) node.down = false;
      this.change(true);
    }

    /** The node's own link to this one is gone: the node may be as well. */
    wentDown(id, reason) {
      const node = this.nodes.get(id);
      if (node && !POLITE.has(reason)) node.down = true;
    }

    /** Compare what is there with what the latest survey and the latest peers say. */
    change(surveyed = false) {
      const now = performance.now();
      const wanted = new Map();
      const links = new Map();
      const short = new Map();
      const survey = this.survey || {};
      const left = new Set();
      let members = list(survey.members);
      // Who is drawn already stays: else it would look as if it had gone.
      const drawn = (id) => this.nodes.has(id) && !this.nodes.get(id).gone;
      if (members.length > MOST_NODES) {
        const old = (member) => drawn(text(member.id));
        members = [...members.filter(old), ...members.filter((member) => !old(member))];
      }

      const want = (id, kind, facts) => {
        const found = wanted.get(id);
        if (found === undefined) {
          const most = drawn(id) ? 1.1 * MOST_NODES : MOST_NODES;
          if (wanted.size >= most && kind !== "own" && !(facts && facts.row)) {
            left.add(id);
            return;
          }
          left.delete(id);
          wanted.set(id, { kind, facts });
        } else {
          if (found.kind === "silent") found.kind = kind;
          if (facts) found.facts = { ...found.facts, ...facts };
        }
        if (!short.has(id.slice(0, PREFIX))) short.set(id.slice(0, PREFIX), id);
      };
      const whole = (id) => (wanted.has(id) ? id : short.get(id) || id);
      const connect = (one, other, kind) => {
        if (one === other || !wanted.has(one) || !wanted.has(other)) return;
        if (links.size >= MOST_LINKS && one !== this.own) return;
        const key = one < other ? `${one} ${other}` : `${other} ${one}`;
        if (!links.has(key)) links.set(key, { one, other, own: one === this.own || other === this.own, kind });
      };

      want(this.own, "own");
      for (const member of members) {
        const id = text(member.id);
        want(id, id === this.own ? "own" : "member", {
          address: text(member.address),
          hops: member.hops,
          rtt: member.rtt,
          version: text(member.version),
        });
      }
      for (const row of this.peers) {
        if (row.kind === "neighbour" || row.kind === "plain") {
          const facts = { row };
          if (row.address) facts.address = text(row.address);
          want(text(row.id), row.kind === "plain" ? "plain" : "member", facts);
        }
      }
      for (const id of list(survey.plain)) want(whole(text(id)), "plain");
      for (const row of this.peers) {
        if (row.kind === "neighbour" || row.kind === "plain") connect(this.own, text(row.id), row.kind);
      }
      for (const member of members) {
        const from = text(member.id);
        if (from === this.own) continue;
        for (const [ids, kind] of [[list(member.neighbours), "silent"], [list(member.plain), "plain"]]) {
          for (const given of ids) {
            const id = whole(text(given));
            // Our own links are known better than anybody can tell.
            if (id === this.own) continue;
            want(id, kind);
            connect(from, id, kind);
          }
        }
      }

      this.left = left.size;
      let changed = false;
      for (const [id, { kind, facts }] of wanted) {
        let node = this.nodes.get(id);
        if (!node) {
          node = { id, kind, born: this.surveys > 1 ? now : now - VISIT, gone: 0, missed: 0, down: false, heard: false, x: NaN, y: NaN, vx: 0, vy: 0, degree: 0 };
          this.nodes.set(id, node);
          changed = true;
        }
        if (node.gone) {
          node.gone = 0;
          node.born = now;
          changed = true;
        }
        node.missed = 0;
        node.kind = kind;
        if (kind !== "silent") node.heard = true;
        node.row = undefined;
        Object.assign(node, facts);
        node.lost = (kind === "silent" && node.heard) || (node.down && !node.row);
      }
      const forgotten = new Set();
      for (const [id, node] of this.nodes) {
        if (wanted.has(id)) continue;
        if (node.gone) {
          if (now - node.gone > FADE) {
            this.nodes.delete(id);
            changed = true;
          }
          continue;
        }
        if (surveyed) node.missed += 1;
        if (survey.complete === false && node.missed < PATIENCE) {
          node.lost = true;
          continue;
        }
        // Who was merely named by somebody was perhaps never there.
        if (!node.heard || (now - node.born < VISIT && this.surveys > 1)) {
          this.nodes.delete(id);
          forgotten.add(node);
        }
        node.gone = now;
        node.row = undefined;
        changed = true;
      }
      for (const [key, link] of forgotten.size ? this.links : []) {
        if (forgotten.has(link.a) || forgotten.has(link.b)) this.links.delete(key);
      }
      for (const [key, { one, other, own, kind }] of links) {
        let link = this.links.get(key);
        if (!link || link.gone) {
          // What was there when the page was opened is not news.
          const fresh = this.surveys > 1 || (own && this.surveys > 0);
          link = { key, a: this.nodes.get(one), b: this.nodes.get(other), own, kind, gone: 0, born: fresh ? now : -Infinity };
          this.links.set(key, link);
          changed = true;
        }
        link.own = own;
        link.kind = kind;
      }
      for (const [key, link] of this.links) {
        if (links.has(key)) continue;
        if (!link.gone) {
          link.gone = now;
          changed = true;
        } else if (now - link.gone > Math.max(LINK_FADE, link.a.gone || link.b.gone ? FADE : 0)) {
          this.links.delete(key);
        }
      }
      if (changed) {
        this.version += 1;
        for (const node of this.nodes.values()) node.degree = 0;
        for (const link of this.links.values()) {
          if (link.gone) continue;
          link.a.degree += 1;
          link.b.degree += 1;
        }
      }
    }

    /** Who is linked with whom. */
    neighbourhoods() {
      const found = new Map();
      for (const link of this.links.values()) {
        if (link.gone) continue;
        for (const [from, to] of [[link.a, link.b], [link.b, link.a]]) {
          if (!found.has(from)) found.set(from, []);
          found.get(from).push([to, link]);
        }
      }
      return found;
    }
  }

  function stateOf(node) {
    if (node.gone) return "gone";
    if (node.lost) return "lost";
    return node.kind === "silent" ? "silent" : "alive";
  }

  function kindText(node) {
    const state = stateOf(node);
    if (state === "gone") return "gone";
    if (state === "lost") return "does not answer";
    return { own: "this node", member: "member", plain: "plain, py2p 0.6", silent: "has not answered" }[node.kind];
  }

  // --- the layout: springs along links, everybody pushes everybody ------------------------------

  /**
   * Positions, in units of their own. What has found its place keeps it: a change warms the
   * layout up a little, and it cools down by itself. A step costs n²/2.
   */
  class Layout {
    constructor(mesh) {
      this.mesh = mesh;
      this.heat = 0;
      this.version = -1;
      this.nodes = [];
      this.links = [];
      this.room = [new Float64Array(0)];
    }

    get warm() {
      return this.heat > 0.004;
    }

    refresh() {
      if (this.version === this.mesh.version) return;
      this.version = this.mesh.version;
      const before = this.nodes.length;
      this.nodes = [...this.mesh.nodes.values()];
      this.links = [...this.mesh.links.values()].filter((link) => !link.gone || link.a.gone || link.b.gone);
      const around = this.mesh.neighbourhoods();
      let placed = 0;
      for (const node of this.nodes) {
        if (!Number.isNaN(node.x)) continue;
        const there = (around.get(node) || []).map(([other]) => other).filter((other) => !Number.isNaN(other.x));
        const angle = 2 * Math.PI * hash(node.id);
        const far = node.kind === "own" ? 0 : 50 + 60 * hash(node.id + "'");
        let x = 0;
        let y = 0;
        for (const other of there) {
          x += other.x / there.length;
          y += other.y / there.length;
        }
        node.x = x * 1.3 + far * Math.cos(angle);
        node.y = y * 1.3 + far * Math.sin(angle);
        placed += 1;
      }
      const share = placed / Math.max(1, this.nodes.length);
      this.heat = Math.max(this.heat, before === 0 || share > 0.4 ? 1 : placed ? 0.35 : 0.12);
      if (still.matches || (before === 0 && this.nodes.length > 1)) {
        for (let step = 0; step < (still.matches ? 300 : 60) && this.warm; step += 1) this.step();
      }
    }

    step() {
      const { nodes, links, heat } = this;
      const count = nodes.length;
      const rest = count > 150 ? 60 : 95;
      const push = -(rest * rest) / (count > 150 ? 7 : 4.5);
      const reach = (rest * 9) ** 2;
      // Plain numbers, side by side: this is where the time goes.
      if (this.room[0].length < count) this.room = [0, 1, 2, 3].map(() => new Float64Array(2 * count));
      const [xs, ys, us, vs] = this.room;
      for (let i = 0; i < count; i += 1) {
        xs[i] = nodes[i].x;
        ys[i] = nodes[i].y;
        us[i] = vs[i] = 0;
      }
      for (let i = 0; i < count; i += 1) {
        const x = xs[i];
        const y = ys[i];
        let u = 0;
        let v = 0;
        for (let j = i + 1; j < count; j += 1) {
          let dx = xs[j] - x;
          let dy = ys[j] - y;
          const far = dx * dx + dy * dy;
          if (far > reach) continue;
          const share = 1 / (far < 100 ? 100 : far);
          dx *= share;
          dy *= share;
          u += dx;
          v += dy;
          us[j] -= dx;
          vs[j] -= dy;
        }
        nodes[i].vx += (us[i] + u) * push * heat;
        nodes[i].vy += (vs[i] + v) * push * heat;
      }
      for (const link of links) {
        const { a, b } = link;
        if (a.gone || b.gone) continue;
        let dx = b.x - a.x;
        let dy = b.y - a.y;
        const far = Math.hypot(dx, dy) || 1;
        const pull = ((far - rest) / far) * heat * (0.9 / Math.max(1, Math.min(a.degree, b.degree)));
        const share = a.degree / Math.max(1, a.degree + b.degree);
        dx *= pull;
        dy *= pull;
        b.vx -= dx * share;
        b.vy -= dy * share;
        a.vx += dx * (1 - share);
        a.vy += dy * (1 - share);
      }
      for (const node of nodes) {
        // This node in the middle, the others around it on rings by hops, as far as their links
        // let them.
        const far = Math.hypot(node.x, node.y) || 1;
        const ring = rest * 0.95 * Math.max(1, node.hops || (node.row ? 1 : 2));
        const hold = (count > 150 ? 0.03 : 0.07) * heat * (1 - ring / far);
        node.vx -= node.x * hold;
        node.vy -= node.y * hold;
        if (node.gone || (node.kind === "own" && count > 1)) {
          node.vx = node.vy = 0;
          continue;
        }
        node.vx *= 0.6;
        node.vy *= 0.6;
        const fast = Math.hypot(node.vx, node.vy);
        if (fast > 40) {
          node.vx *= 40 / fast;
          node.vy *= 40 / fast;
        }
        node.x += node.vx;
        node.y += node.vy;
      }
      this.heat *= 0.978;
    }
  }

  // --- the picture ------------------------------------------------------------------------------

  const HOP = 230; // milliseconds that a wave takes from node to node
  const RING = 750; // so long a node shines when the wave comes
  const MOST_WAVES = 10;
  const MOST_DOTS = 240;
  const TRAVEL = 520; // milliseconds of a dot from end to end

  class Picture {
    constructor(canvas, mesh) {
      this.canvas = canvas;
      this.context = canvas.getContext("2d");
      this.mesh = mesh;
      this.layout = new Layout(mesh);
      this.view = { x: 0, y: 0, k: 1 };
      this.automatic = true;
      this.width = this.height = 1;
      this.dots = [];
      this.waves = [];
      this.marks = new Map(); // what is known of a receipt: id -> [colour, until]
      this.over = null;
      this.chosen = null;
      this.frame = 0;
      this.last = 0;
      this.frames = 0;
      this.busy = 0;
      this.wavesShown = 0;
      this.onChoose = () => {};
      new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
      this.recolour();
      this.resize();
      this.listen();
    }

    recolour() {
      const probe = make("i");
      document.body.append(probe);
      this.colours = {};
      for (const name of ["surface", "text", "muted", "own", "member", "plain", "link", "own-link", "wave", "gone", "fresh"]) {
        probe.style.color = `var(--${name})`;
        this.colours[name] = getComputedStyle(probe).color;
      }
      probe.remove();
      this.wake();
    }

    resize() {
      const box = this.canvas.parentElement.getBoundingClientRect();
      const sharp = Math.min(2, window.devicePixelRatio || 1);
      this.width = Math.max(1, box.width);
      this.height = Math.max(1, box.height);
      this.sharp = sharp;
      this.canvas.width = Math.round(this.width * sharp);
      this.canvas.height = Math.round(this.height * sharp);
      this.jump = true;
      // A picture that is wide is drawn wide.
      this.wide = clamp((this.width / (this.height - this.below())) ** 0.85, 0.8, 1.75);
      this.draw(performance.now());
      this.wake();
    }

    /** What the legend covers of a picture that is large enough to do without. */
    below() {
      return legend.open && this.width > 620 && this.height > 330 ? legend.offsetHeight + 4 : 0;
    }

    wake() {
      this.frame ||= requestAnimationFrame((now) => this.tick(now));
    }

    tick(now) {
      this.frame = 0;
      const before = performance.now();
      this.layout.refresh();
      if (this.layout.warm) this.layout.step();
      const moving = this.aim() || this.layout.warm;
      const living = this.draw(now);
      this.frames += 1;
      this.busy = this.busy * 0.95 + (performance.now() - before) * 0.05;
      if (moving || living) this.wake();
    }

    /** Move the view to where everything is seen, unless somebody has moved it elsewhere. */
    aim() {
      if (!this.automatic) return false;
      let left = Infinity;
      let right = -Infinity;
      let top = Infinity;
      let bottom = -Infinity;
      for (const node of this.mesh.nodes.values()) {
        if (Number.isNaN(node.x)) continue;
        left = Math.min(left, node.x * this.wide);
        right = Math.max(right, node.x * this.wide);
        top = Math.min(top, node.y);
        bottom = Math.max(bottom, node.y);
      }
      if (left === Infinity) return false;
      const narrow = this.width < 560;
      const pad = narrow ? 36 : 58;
      const below = this.below();
      const room = { w: Math.max(60, this.width - 2 * pad), h: Math.max(60, this.height - below - 1.7 * pad) };
      const k = clamp(Math.min(room.w / Math.max(1, right - left), room.h / Math.max(1, bottom - top)), 0.05, narrow ? 1.3 : 1.7);
      const goal = { k, x: this.width / 2 - (k * (left + right)) / 2, y: (this.height - below) / 2 - (k * (top + bottom)) / 2 };
      const share = still.matches || this.jump ? 1 : 0.12;
      this.jump = false;
      let off = 0;
      for (const key of ["k", "x", "y"]) {
        const step = goal[key] - this.view[key];
        off = Math.max(off, Math.abs(step) * (key === "k" ? 400 : 1));
        this.view[key] += step * share;
      }
      return off > 0.3;
    }

    fit() {
      this.automatic = true;
      this.wake();
    }

    zoom(factor, x = this.width / 2, y = this.height / 2) {
      this.automatic = false;
      const k = clamp(this.view.k * factor, 0.05, 8);
      const by = k / this.view.k;
      this.view = { k, x: x - (x - this.view.x) * by, y: y - (y - this.view.y) * by };
      this.wake();
    }

    at(node) {
      return [this.view.x + node.x * this.wide * this.view.k, this.view.y + node.y * this.view.k];
    }

    radius(node) {
      const count = this.mesh.nodes.size;
      const base = count > 200 ? 3.6 : count > 80 ? 5 : count > 30 ? 6.5 : 8;
      const of = node.kind === "own" ? base * 1.45 + 1 : node.kind === "silent" ? base * 0.8 : base;
      return of * clamp(Math.sqrt(this.view.k), 0.75, 2.2);
    }

    // Movement

    /** Bytes on our own links: dots that run along them. */
    traffic(links) {
      if (still.matches || document.hidden) return;
      const now = performance.now();
      for (const [id, [came, went]] of Object.entries(links)) {
        const own = this.mesh.nodes.get(this.mesh.own);
        const peer = this.mesh.nodes.get(id);
        if (!own || !peer || !peer.row) continue;
        for (const [bytes, from, to] of [[number(came), peer, own], [number(went), own, peer]]) {
          if (bytes <= 0) continue;
          const count = clamp(Math.round(Math.log10(bytes / 30)), 1, 3);
          for (let at = 0; at < count && this.dots.length < MOST_DOTS; at += 1) {
            this.dots.push({ from, to, start: now + (250 * at) / count, size: clamp(1.1 + Math.log10(bytes) * 0.45, 1.6, 3.4) });
          }
        }
      }
      this.wake();
    }

    /** A broadcast: from its sender over the links that are known, the shortest way. */
    wave(message) {
      const own = this.mesh.nodes.get(this.mesh.own);
      const via = message.via ? this.mesh.nodes.get(message.via) : null;
      const start = this.mesh.nodes.get(message.sender) || via || own;
      if (!start || document.hidden) return;
      this.wavesShown += 1;
      if (this.waves.length >= MOST_WAVES) return;
      const around = this.mesh.neighbourhoods();
      const arrivals = new Map([[start, 0]]);
      const ways = [];
      let ring = [start];
      for (let hop = 1; ring.length; hop += 1) {
        const next = [];
        for (const node of ring) {
          for (const [other, link] of around.get(node) || []) {
            if (arrivals.has(other)) continue;
            // Who has brought it to us is known.
            if (other === own && via && node !== via && around.get(own).some(([peer]) => peer === via)) continue;
            arrivals.set(other, hop);
            ways.push([node, other, hop, link]);
            next.push(other);
          }
        }
        ring = next;
      }
      const last = Math.max(...arrivals.values());
      this.waves.push({ start: performance.now(), arrivals, ways, last });
      this.wake();
    }

    mark(ids, colour) {
      const until = performance.now() + 6000;
      for (const id of ids) this.marks.set(id, [colour, until]);
      this.wake();
    }

    // Drawing

    draw(now) {
      const { context: c, colours, mesh } = this;
      let living = false;
      c.setTransform(this.sharp, 0, 0, this.sharp, 0, 0);
      c.clearRect(0, 0, this.width, this.height);
      const nodes = [...mesh.nodes.values()].filter((node) => !Number.isNaN(node.x));
      const place = new Map(nodes.map((node) => [node, this.at(node)]));
      const crowded = nodes.length > 120;
      const focus = this.over || this.chosen;

      const line = (link) => {
        const from = place.get(link.a);
        const to = place.get(link.b);
        if (!from || !to) return;
        c.moveTo(from[0], from[1]);
        c.lineTo(to[0], to[1]);
      };
      const stroke = (links, colour, width, alpha, dash = []) => {
        if (!links.length) return;
        c.beginPath();
        links.forEach(line);
        c.globalAlpha = alpha;
        c.strokeStyle = colours[colour];
        c.lineWidth = width;
        c.setLineDash(dash);
        c.stroke();
        c.setLineDash([]);
        c.globalAlpha = 1;
      };

      // Links: those of others, our own, those of whoever is looked at; then the new, the lost.
      const others = [];
      const own = [];
      const plain = [];
      const looked = [];
      for (const link of mesh.links.values()) {
        if (link.gone) {
          const dead = link.a.gone || link.b.gone;
          const left = 1 - (now - link.gone) / (dead ? FADE * 0.6 : LINK_FADE);
          if (left > 0) {
            stroke([link], dead ? "gone" : "muted", 1.4, left * (still.matches ? 0.4 : 0.75), [4, 4]);
            living = true;
          }
          continue;
        }
        if (focus && (link.a === focus || link.b === focus)) looked.push(link);
        if (link.own) own.push(link);
        else if (link.kind === "plain") plain.push(link);
        else others.push(link);
      }
      const dim = focus ? 0.55 : 1;
      stroke(others, "link", crowded ? 0.8 : 1.1, (crowded ? 0.55 : 0.9) * dim);
      stroke(plain, "plain", crowded ? 0.8 : 1.1, 0.55 * dim, [2, 3]);
      stroke(own, "own-link", crowded ? 1.6 : 2.2, 0.85);
      stroke(looked, "text", crowded ? 1.4 : 1.8, 0.75);
      for (const link of mesh.links.values()) {
        const age = now - link.born;
        if (link.gone || age > GLOW) continue;
        const left = 1 - age / GLOW;
        stroke([link], "fresh", 2 + 7 * left, 0.22 * left);
        stroke([link], "fresh", 2.2, left);
        living = true;
      }

      // Traffic
      this.dots = this.dots.filter((dot) => now - dot.start < TRAVEL && !dot.from.gone && !dot.to.gone);
      if (this.dots.length) {
        living = true;
        c.fillStyle = colours.own;
        c.beginPath();
        for (const dot of this.dots) {
          const share = (now - dot.start) / TRAVEL;
          const from = place.get(dot.from);
          const to = place.get(dot.to);
          if (share < 0 || !from || !to) continue;
          const x = from[0] + (to[0] - from[0]) * share;
          const y = from[1] + (to[1] - from[1]) * share;
          c.moveTo(x + dot.size, y);
          c.arc(x, y, dot.size, 0, 7);
        }
        c.fill();
      }

      living = this.drawWaves(now, place, crowded) || living;

      // Nodes: all of a kind at once.
      const kinds = { own: [], member: [], plain: [], silent: [], lost: [], gone: [] };
      for (const node of nodes) {
        const state = stateOf(node);
        kinds[state === "alive" ? node.kind : state].push(node);
      }
      for (const kind of ["silent", "member", "plain", "lost", "own"]) {
        if (!kinds[kind].length) continue;
        const hollow = kind === "silent" || kind === "lost";
        c.beginPath();
        for (const node of kinds[kind]) {
          const [x, y] = place.get(node);
          const grown = still.matches ? 1 : clamp((now - node.born) / 350, 0.15, 1);
          if (grown < 1) living = true;
          const r = this.radius(node) * grown;
          if (kind === "plain") {
            c.moveTo(x, y - r * 1.15);
            c.lineTo(x + r * 1.15, y);
            c.lineTo(x, y + r * 1.15);
            c.lineTo(x - r * 1.15, y);
            c.closePath();
          } else {
            c.moveTo(x + r, y);
            c.arc(x, y, r, 0, 7);
          }
        }
        // What lies behind a node does not shine through.
        c.lineWidth = hollow ? 2 : crowded ? 2 : 3;
        c.strokeStyle = colours[hollow ? (kind === "lost" ? "gone" : "muted") : "surface"];
        if (kind === "silent") c.setLineDash([3, 2.5]);
        c.fillStyle = colours[hollow ? "surface" : kind];
        if (hollow) {
          c.fill();
          c.stroke();
        } else {
          c.stroke();
          c.fill();
        }
        c.setLineDash([]);
      }
      for (const node of kinds.own) {
        const [x, y] = place.get(node);
        c.beginPath();
        c.arc(x, y, this.radius(node) + 5, 0, 7);
        c.strokeStyle = colours.own;
        c.globalAlpha = 0.35;
        c.lineWidth = 2;
        c.stroke();
        c.globalAlpha = 1;
      }
      for (const node of kinds.gone) {
        const age = now - node.gone;
        const left = 1 - age / FADE;
        if (left <= 0) continue;
        living = true;
        const [x, y] = place.get(node);
        const r = this.radius(node);
        c.globalAlpha = still.matches ? 1 : Math.min(1, left * 1.6);
        c.fillStyle = colours.gone;
        c.beginPath();
        c.arc(x, y, still.matches ? r : r * (0.45 + 0.55 * left), 0, 7);
        c.fill();
        if (!still.matches && age < 1500) {
          c.globalAlpha = 1 - age / 1500;
          c.strokeStyle = colours.gone;
          c.lineWidth = 2;
          c.beginPath();
          c.arc(x, y, r + (26 * age) / 1500, 0, 7);
          c.stroke();
        }
        c.globalAlpha = 1;
      }

      for (const [id, [colour, until]] of this.marks) {
        const node = mesh.nodes.get(id);
        const left = until - now;
        if (!node || left <= 0) {
          this.marks.delete(id);
          continue;
        }
        living = true;
        const at = place.get(node);
        if (!at) continue;
        c.globalAlpha = Math.min(1, left / 1500);
        c.strokeStyle = colours[colour];
        c.lineWidth = 2.4;
        c.beginPath();
        c.arc(at[0], at[1], this.radius(node) + 4, 0, 7);
        c.stroke();
        c.globalAlpha = 1;
      }
      if (focus && place.has(focus)) {
        const [x, y] = place.get(focus);
        c.strokeStyle = colours.text;
        c.lineWidth = 2;
        c.beginPath();
        c.arc(x, y, this.radius(focus) + 4, 0, 7);
        c.stroke();
      }
      this.drawLabels(nodes, place, focus);
      return living;
    }

    drawWaves(now, place, crowded) {
      const { context: c, colours } = this;
      const end = (wave) => wave.start + (still.matches ? 1600 : wave.last * HOP + RING);
      this.waves = this.waves.filter((wave) => now < end(wave));
      for (const wave of this.waves) {
        const age = now - wave.start;
        c.strokeStyle = colours.wave;
        c.fillStyle = colours.wave;
        if (still.matches) {
          c.globalAlpha = 0.7;
          c.lineWidth = 2;
          c.beginPath();
          wave.ways.forEach(([from, to]) => {
            if (!place.has(from) || !place.has(to)) return;
            c.moveTo(...place.get(from));
            c.lineTo(...place.get(to));
          });
          c.stroke();
          c.globalAlpha = 1;
          continue;
        }
        c.lineCap = "round";
        for (const [from, to, hop] of wave.ways) {
          const share = (age - (hop - 1) * HOP) / HOP;
          if (share < 0 || share > 3 || !place.has(from) || !place.has(to)) continue;
          const [x, y] = place.get(from);
          const [u, v] = place.get(to);
          const head = Math.min(1, share);
          const tail = clamp(share - 0.65, 0, 1);
          c.globalAlpha = share > 1 ? Math.max(0, 0.5 * (1 - (share - 1) / 2)) : 0.95;
          c.lineWidth = crowded ? 1.6 : 2.6;
          c.beginPath();
          c.moveTo(x + (u - x) * (share > 1 ? 0 : tail), y + (v - y) * (share > 1 ? 0 : tail));
          c.lineTo(x + (u - x) * head, y + (v - y) * head);
          c.stroke();
        }
        c.lineCap = "butt";
        for (const [node, hop] of wave.arrivals) {
          const since = age - hop * HOP;
          if (since < 0 || since > RING || !place.has(node)) continue;
          const share = since / RING;
          const [x, y] = place.get(node);
          const r = this.radius(node);
          if (!crowded) {
            c.globalAlpha = 0.28 * (1 - share);
            c.beginPath();
            c.arc(x, y, r + 5 + 15 * share, 0, 7);
            c.fill();
          }
          c.globalAlpha = 1 - share;
          c.lineWidth = crowded ? 1.2 : 2;
          c.beginPath();
          c.arc(x, y, r + 2 + (crowded ? 3 : 16) * share, 0, 7);
          c.stroke();
        }
        c.globalAlpha = 1;
      }
      return this.waves.length > 0;
    }

    drawLabels(nodes, place, focus) {
      const { context: c, colours } = this;
      const named = nodes.length <= 42 || this.view.k > 1.4 ? nodes : nodes.filter((node) => node.kind === "own");
      c.font = `${this.width < 560 ? 10 : 11.5}px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif`;
      c.textAlign = "center";
      c.textBaseline = "top";
      c.lineJoin = "round";
      c.lineWidth = 3.5;
      c.strokeStyle = colours.surface;
      for (const node of focus && !named.includes(focus) ? [...named, focus] : named) {
        if (!place.has(node)) continue;
        const [x, y] = place.get(node);
        if (x < -60 || y < -30 || x > this.width + 60 || y > this.height + 10) continue;
        const label = this.label(node);
        const below = y + this.radius(node) + (node.kind === "own" ? 8 : 5);
        c.globalAlpha = node.gone ? clamp(1 - (performance.now() - node.gone) / FADE, 0, 1) : 1;
        c.strokeText(label, x, below);
        c.fillStyle = node.gone || node.lost ? colours.gone : node.kind === "own" || node === focus ? colours.text : colours.muted;
        c.fillText(label, x, below);
      }
      c.globalAlpha = 1;
    }

    /** An address, without what it has in common with all others. */
    label(node) {
      if (node.kind === "own") return "this node";
      if (!node.address) return short(node.id);
      if (this.hostsOf !== this.mesh.version) {
        this.hostsOf = this.mesh.version;
        const hosts = new Set();
        for (const one of this.mesh.nodes.values()) {
          if (one.address) hosts.add(one.address.slice(0, one.address.lastIndexOf(":")));
        }
        this.oneHost = hosts.size === 1;
      }
      const label = this.oneHost ? node.address.slice(node.address.lastIndexOf(":")) : node.address;
      return label.length > 28 ? `${label.slice(0, 27)}…` : label;
    }

    // Hands

    find(x, y, reach) {
      let best = null;
      let least = Infinity;
      for (const node of this.mesh.nodes.values()) {
        if (Number.isNaN(node.x)) continue;
        const [u, v] = this.at(node);
        const far = Math.hypot(u - x, v - y) - this.radius(node);
        if (far < reach && far < least) {
          least = far;
          best = node;
        }
      }
      return best;
    }

    hover(node) {
      if (node === this.over) return;
      this.over = node;
      this.canvas.classList.toggle("over", node !== null);
      this.onChoose();
      this.wake();
    }

    choose(node) {
      this.chosen = node;
      this.onChoose();
      this.wake();
    }

    listen() {
      const { canvas } = this;
      const fingers = new Map();
      let moved = 0;
      const where = (event) => {
        const box = canvas.getBoundingClientRect();
        return [event.clientX - box.left, event.clientY - box.top];
      };
      const spread = () => {
        const [[x, y], [u, v]] = [...fingers.values()];
        return [Math.hypot(u - x, v - y), (x + u) / 2, (y + v) / 2];
      };
      canvas.addEventListener("pointerdown", (event) => {
        if (event.button > 0) return;
        canvas.setPointerCapture(event.pointerId);
        fingers.set(event.pointerId, where(event));
        moved = 0;
      });
      canvas.addEventListener("pointermove", (event) => {
        const [x, y] = where(event);
        const before = fingers.get(event.pointerId);
        if (!before) {
          if (event.pointerType === "mouse") this.hover(this.find(x, y, 6));
          return;
        }
        if (fingers.size === 1) {
          moved += Math.hypot(x - before[0], y - before[1]);
          if (moved > 4) {
            canvas.classList.add("drag");
            this.automatic = false;
            this.view.x += x - before[0];
            this.view.y += y - before[1];
          } else return;
          fingers.set(event.pointerId, [x, y]);
        } else if (fingers.size === 2) {
          const [far, midX, midY] = spread();
          fingers.set(event.pointerId, [x, y]);
          const [further, nowX, nowY] = spread();
          this.view.x += nowX - midX;
          this.view.y += nowY - midY;
          moved = 99;
          this.zoom(further / Math.max(1, far), nowX, nowY);
        }
        this.wake();
      });
      const up = (event) => {
        if (!fingers.delete(event.pointerId)) return;
        canvas.classList.remove("drag");
        if (event.type === "pointerup" && moved <= 4) {
          const [x, y] = where(event);
          const found = this.find(x, y, event.pointerType === "mouse" ? 6 : 18);
          this.choose(found === this.chosen ? null : found);
        }
      };
      canvas.addEventListener("pointerup", up);
      canvas.addEventListener("pointercancel", up);
      canvas.addEventListener("pointerleave", () => this.hover(null));
      canvas.addEventListener("dblclick", (event) => this.zoom(1.6, ...where(event)));
      canvas.addEventListener(
        "wheel",
        (event) => {
          event.preventDefault();
          const turn = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
          this.zoom(Math.exp(-clamp(turn, -200, 200) / 320), ...where(event));
        },
        { passive: false },
      );
    }
  }

  // --- panels -----------------------------------------------------------------------------------

  /** A table's body that is changed only where something has changed. */
  class Rows {
    constructor(body, columns) {
      this.body = body;
      this.columns = columns;
      this.rows = new Map();
    }

    show(items, key, fill) {
      const left = new Set(this.rows.keys());
      let before = null;
      for (const item of items) {
        const id = key(item);
        let row = this.rows.get(id);
        if (!row) {
          row = { line: make("tr"), cells: [], button: make("button"), mark: make("span", "mark") };
          row.button.type = "button";
          for (const column of this.columns) {
            const cell = make("td", column);
            row.line.append(cell);
            row.cells.push(cell);
          }
          row.text = make("span");
          row.button.append(row.mark, row.text);
          row.cells[0].append(row.button);
          this.rows.set(id, row);
          row.button.addEventListener("click", () => choose(id));
        }
        left.delete(id);
        fill(row, item);
        const next = before ? before.nextSibling : this.body.firstChild;
        if (next !== row.line) this.body.insertBefore(row.line, next);
        before = row.line;
      }
      for (const id of left) {
        this.rows.get(id).line.remove();
        this.rows.delete(id);
      }
    }
  }

  const nodeRows = new Rows($("nodes"), ["", "", "", "n", "n", "n"]);
  const peerRows = new Rows($("peers"), ["", "", "", "n", "n", "n", "n", "n"]);

  function fill(row, mark, texts, id) {
    row.mark.className = `mark ${mark}`;
    put(row.text, texts[0]);
    row.button.title = id;
    for (let at = 1; at < texts.length; at += 1) put(row.cells[at], texts[at]);
    row.line.classList.toggle("chosen", picture.chosen !== null && picture.chosen.id === id);
  }

  const showNodes = seldom(200, () => {
    const far = (node) => (node.kind === "own" ? -1 : node.hops == null ? (node.row ? 1 : 98) : node.hops);
    const nodes = [...mesh.nodes.values()].sort(
      (one, other) =>
        (one.gone ? 1 : 0) - (other.gone ? 1 : 0) ||
        far(one) - far(other) ||
        text(one.address).localeCompare(text(other.address), undefined, { numeric: true }) ||
        (one.id < other.id ? -1 : 1),
    );
    nodeRows.show(nodes.slice(0, MOST_ROWS), (node) => node.id, (row, node) => {
      const state = stateOf(node);
      row.line.dataset.node = node.id;
      row.line.dataset.state = state;
      fill(
        row,
        state === "alive" ? node.kind : state,
        [
          short(node.id),
          node.address || "–",
          kindText(node),
          node.kind === "own" ? "0" : node.hops == null ? (node.row ? "1" : "–") : String(node.hops),
          node.kind === "own" ? "–" : milliseconds(node.rtt ?? (node.row && node.row.rtt)),
          String(node.degree),
        ],
        node.id,
      );
    });
    const more = Math.max(0, nodes.length - MOST_ROWS) + mesh.left;
    $("nodes-more").hidden = more <= 0;
    put($("nodes-more"), more > 0 ? `and ${more} more, in ${mesh.left ? "" : "the picture and in "}/members.json` : "");
    const alive = mesh.alive;
    const current = mesh.current.length;
    put($("count-nodes"), String(alive.length + mesh.left));
    const summary = `${many(alive.length, "node")}, ${many(current, "link")}${mesh.left ? `; ${mesh.left} more are not drawn` : ""}`;
    put($("caption"), summary + (mesh.survey && mesh.survey.complete === false ? " (the survey was not complete)" : ""));
    const gone = mesh.nodes.size - alive.length;
    $("topology").setAttribute("aria-label", `The mesh: ${summary}${gone ? `, ${gone} gone` : ""}`);
    showDetails();
  });

  const showPeers = seldom(200, () => {
    peerRows.show(mesh.peers, (row) => text(row.id), (line, row) => {
      line.line.dataset.peer = text(row.id);
      fill(
        line,
        row.kind === "plain" ? "plain" : row.kind === "neighbour" ? "" : "silent",
        [
          short(text(row.id)),
          `${row.outgoing ? "→" : "←"} ${text(row.address || row.where)}`,
          text(row.kind) + (row.slow ? ", slow" : ""),
          milliseconds(row.rtt),
          span(number(row.since)),
          size(number(row.bytes_in)),
          String(number(row.duplicates)),
          size(number(row.bytes_waiting)),
        ],
        text(row.id),
      );
    });
    put($("count-peers"), String(mesh.peers.length));
  });

  function showDetails() {
    const node = picture.over || picture.chosen;
    const panel = $("details");
    panel.hidden = !node || !mesh.nodes.has(node.id);
    if (panel.hidden) return;
    panel.classList.toggle("pinned", picture.chosen === node);
    // Beside it, not on top of it.
    panel.classList.toggle("left", picture.width > 620 && picture.at(node)[0] > picture.width * 0.55);
    put($("details-title"), node.kind === "own" ? "This node" : node.address || short(node.id));
    const facts = [["Kind", kindText(node)]];
    if (node.kind === "own" && node.address) facts.push(["Address", node.address]);
    if (node.kind !== "own" && node.hops != null) facts.push(["Hops", String(node.hops)]);
    if (node.kind !== "own" && node.rtt != null) facts.push(["Round trip", milliseconds(node.rtt)]);
    facts.push(["Links", String(node.degree)]);
    if (node.row) {
      const row = node.row;
      facts.push(["Our link", `${row.outgoing ? "dialled by us" : "dialled by it"}, for ${span(number(row.since))}`]);
      facts.push(["Came in", `${size(number(row.bytes_in))} in ${many(number(row.frames_in), "frame")}`]);
      if (row.duplicates) facts.push(["Duplicates", String(row.duplicates)]);
      if (row.slow) facts.push(["Slow", `${size(number(row.bytes_waiting))} wait for it`]);
    }
    if (node.version) facts.push(["Version", node.version]);
    facts.push(["Id", node.id]);
    const found = $("details-list");
    const shown = [...found.querySelectorAll("dt")].map((term) => term.textContent).join();
    if (shown !== facts.map(([term]) => term).join()) {
      found.replaceChildren(...facts.flatMap(([term]) => [make("dt", "", term), make("dd", term === "Id" ? "id" : "")]));
    }
    found.querySelectorAll("dd").forEach((value, at) => put(value, facts[at][1]));
  }

  function choose(id) {
    const node = mesh.nodes.get(id) || null;
    picture.choose(node === picture.chosen ? null : node);
    showNodes();
    showPeers();
  }

  // Counters

  const histories = {};

  function curve(svg, ...names) {
    const series = names.map((name) => histories[name] || []);
    const most = Math.max(1e-9, ...series.flat()) * 1.15;
    const points = (values) =>
      values.map((value, at) => `${((HISTORY - values.length + at) * 120) / (HISTORY - 1)},${(30 - (28 * value) / most).toFixed(2)}`);
    while (svg.childNodes.length < names.length + 1) {
      svg.append(document.createElementNS("http://www.w3.org/2000/svg", svg.childNodes.length ? "polyline" : "polygon"));
    }
    const first = points(series[0]);
    const [area, ...lines] = svg.childNodes;
    area.setAttribute("class", "spark-fill");
    area.setAttribute("points", first.length > 1 ? `${first[0].split(",")[0]},32 ${first.join(" ")} 120,32` : "");
    lines.forEach((line, at) => {
      line.setAttribute("class", at ? "spark second" : "spark");
      line.setAttribute("points", points(series[at]).join(" "));
    });
  }

  /** The mean of the last seconds: of what comes every two seconds a number would only flicker. */
  function lately(name) {
    const values = histories[name].slice(-MEAN);
    return values.reduce((one, other) => one + other, 0) / values.length;
  }

  function showStatus(said) {
    const rates = said.rates || {};
    for (const name of ["messages_in", "messages_out", "bytes_in", "bytes_out", "duplicates"]) {
      const values = (histories[name] ||= []);
      values.push(Math.max(0, number(rates[name])));
      if (values.length > HISTORY) values.shift();
    }
    put($("rate-messages"), amount(lately("messages_in")));
    put($("sub-messages"), `${amount(lately("messages_out"))}/s out`);
    put($("rate-bytes"), size(lately("bytes_in")));
    put($("sub-bytes"), `${size(lately("bytes_out"))}/s out`);
    put($("rate-duplicates"), amount(lately("duplicates")));
    const status = said.status || {};
    put($("sub-duplicates"), `${amount(number(status["duplicates received"]))} in all`);
    curve($("spark-messages"), "messages_in", "messages_out");
    curve($("spark-bytes"), "bytes_in", "bytes_out");
    curve($("spark-duplicates"), "duplicates");
    state.joined = Boolean(said.joined);
    state.status = status;
    if (hello) showFacts(number(said.t));
    showState();
  }

  function showFacts(now) {
    const running = now && hello.started ? `running ${span(Math.max(0, now - hello.started))}` : "";
    const facts = [text(hello.address), text(hello.encryption), text(hello.version) && `py2p_twisted ${text(hello.version)}`, running];
    put($("facts"), facts.filter(Boolean).join(" · "));
  }

  function showState() {
    const known = state.connection === "connected";
    const word = !known ? state.connection : state.joined === null ? "connecting" : state.joined ? "joined" : "alone";
    document.body.dataset.connection = state.connection;
    $("joined").dataset.state = word;
    put($("joined"), word === "lost" ? "connection lost" : word);
    $("alone").hidden = word !== "alone";
    $("lost").hidden = word !== "lost";
    sendable();
  }

  // Messages

  let pending = [];
  let paused = false;
  let shown = 0;

  function add(item) {
    pending.push(item);
    if (pending.length > MOST_MESSAGES) pending.shift();
    showMessages();
  }

  const showMessages = seldom(150, () => {
    if (paused) {
      put($("pause"), `go on (${pending.length}${pending.length === MOST_MESSAGES ? "+" : ""} new)`);
      return;
    }
    const target = $("messages");
    for (const item of pending) target.prepend(item.note ? note(item) : line(item));
    shown += pending.length;
    pending = [];
    while (target.childElementCount > MOST_MESSAGES) target.lastElementChild.remove();
    $("messages-none").hidden = target.childElementCount > 0;
  });

  function clock(at) {
    return new Date(at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  }

  function line(item) {
    const message = item.message;
    const entry = make("li", message.own ? "own new" : "new");
    entry.dataset.testid = "message";
    const time = make("time", "", clock(item.at));
    const words = make("div", "text");
    words.dir = "auto";
    for (const packet of list(message.packets)) words.append(make("span", "", text(packet)), " ");
    if (!words.childNodes.length) words.append(make("span", "", "(no packets)"));
    const from = make("span", "from", message.own ? "from here" : `from ${nameOf(text(message.sender))}`);
    from.title = text(message.sender);
    entry.append(time, words, make("span", "size", size(number(message.bytes))), from);
    return entry;
  }

  function note(item) {
    const entry = make("li", `note ${item.kind || ""}`);
    entry.dataset.testid = "note";
    entry.append(make("time", "", clock(item.at)), make("div", "text", item.note));
    return entry;
  }

  function nameOf(id) {
    if (id === mesh.own) return "this node";
    const node = mesh.nodes.get(id);
    return node && node.address ? `${node.address} (${short(id)})` : short(id);
  }

  const tell = (sentence, kind) => add({ note: sentence, kind, at: Date.now() });

  // --- sending ----------------------------------------------------------------------------------

  let token = "";
  let sending = false;

  function takeToken() {
    const found = /(?:^#|&)token=([^&]*)/.exec(location.hash);
    if (found) {
      // It has no place in the address bar, nor in the history.
      history.replaceState(null, "", location.pathname + location.search);
      try {
        setToken(decodeURIComponent(found[1]));
      } catch {
        setToken(found[1]);
      }
    } else if (!token) setToken(kept.get("sessionStorage", "py2p-token") || "");
  }

  function setToken(value) {
    token = value.trim();
    kept.set("sessionStorage", "py2p-token", token);
    $("unlocked").hidden = !token;
    $("locked").hidden = Boolean(token);
    $("token").value = "";
    sendable();
  }

  function sendable() {
    const can = Boolean(token) && state.connection === "connected";
    $("send-text").disabled = !can;
    $("send-button").disabled = !can || sending;
  }

  function outcome(kind, sentence, ...more) {
    const target = $("outcome");
    target.hidden = false;
    target.dataset.state = kind;
    target.replaceChildren(make("strong", kind === "failed" ? "bad" : kind === "ok" ? "good" : "", sentence), ...more);
  }

  async function send(packets, confirm) {
    sending = true;
    sendable();
    if (confirm) outcome("waiting", `Waiting for receipts, ${CONFIRM} s at most …`);
    try {
      const answer = await fetch("/send", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Py2p-Token": token },
        body: JSON.stringify({ packets, confirm, timeout: CONFIRM }),
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        signal: AbortSignal.timeout((CONFIRM + 10) * 1000),
      });
      const said = await answer.json().catch(() => ({}));
      if (answer.status === 401) {
        setToken("");
        outcome("failed", "The node has refused the token.");
      } else if (!answer.ok || said.ok === false) {
        outcome("failed", `Not sent: ${text(said.text || said.message || said.error || said.reason) || `the node says ${answer.status}`}`);
      } else {
        $("send-text").value = "";
        if (confirm) receipts(said);
        else outcome("ok", said.peers === 0 ? "Sent, but nobody is there: it waits for a first peer." : `Sent to ${many(number(said.peers), "peer")}.`);
      }
    } catch (error) {
      outcome("failed", error.name === "TimeoutError" ? "The node has not answered in time." : "Not sent: the node cannot be reached.");
    }
    sending = false;
    sendable();
  }

  function receipts(said) {
    const groups = [["delivered", "fresh"], ["missing", "gone"], ["unknown", "plain"]];
    const chips = make("ul");
    const counts = {};
    for (const [name, colour] of groups) {
      const ids = list(said[name]).map(text);
      counts[name] = ids.length;
      picture.mark(ids, colour);
      for (const id of ids.slice(0, 100)) {
        const chip = make("li", name);
        const button = make("button", "", picture.label(mesh.nodes.get(id) || { id }));
        button.type = "button";
        button.title = `${name}: ${id}`;
        button.addEventListener("click", () => choose(id));
        chip.append(button);
        chips.append(chip);
      }
    }
    $("outcome").dataset.delivered = counts.delivered;
    $("outcome").dataset.missing = counts.missing;
    $("outcome").dataset.unknown = counts.unknown;
    const missing = make(counts.missing ? "strong" : "span", counts.missing ? "bad" : "", `${counts.missing} missing`);
    outcome("ok", `${counts.delivered} delivered`, ", ", missing, `, ${counts.unknown} unknown, after ${milliseconds(number(said.seconds))}`, chips);
  }

  // --- the stream -------------------------------------------------------------------------------

  const state = { connection: "connecting", joined: null, status: {}, reconnects: 0, events: 0 };
  let hello = null;
  let source = null;
  let failures = 0;
  let retryAt = 0;
  let retryTimer = 0;
  let heardAt = 0;

  const on = {
    hello(said) {
      const id = text(said.id);
      if (hello && (hello.id !== said.id || hello.started !== said.started)) state.reconnects += 1;
      hello = said;
      if (mesh.own !== id) {
        mesh.clear(id);
        picture.chosen = picture.over = null;
      } else {
        // What happens while nobody looks is no news: links that are there now glow for nobody.
        mesh.surveys = 0;
      }
      mesh.nodes.get(id).address = text(said.address);
      put($("network"), text(said.network) || "py2p");
      document.title = `${text(said.network) || "py2p"} · ${text(said.address)}`;
      $("demo").hidden = !said.demo;
      const command = ["py2p", "node", `--join=${text(said.address)}`];
      if (said.network !== "mesh") command.push(`--network=${text(said.network)}`);
      $("alone-command").replaceChildren(...command.flatMap((word) => [make("span", "", word), " "]));
      showFacts(0);
      picture.fit();
      showNodes();
    },
    status: showStatus,
    peers(said) {
      mesh.setPeers(list(said.peers));
      showNodes();
      showPeers();
      picture.wake();
    },
    mesh(said) {
      mesh.setSurvey(said);
      showNodes();
      picture.wake();
    },
    message(said) {
      said = { ...said, sender: text(said.sender), via: said.via == null ? null : text(said.via) };
      add({ message: said, at: Date.now() });
      picture.wave(said);
    },
    traffic(said) {
      picture.traffic(said.links || {});
    },
    up(said) {
      tell(`link to ${text(said.address || said.where)} is up`);
    },
    down(said) {
      mesh.wentDown(text(said.peer), said.reason);
      tell(`link to ${text(said.address || said.where)} is down: ${text(said.error || said.reason)}`, "bad");
    },
    gap(said) {
      tell(`${said.count ? many(number(said.count), "message") : "messages"} cannot be had any more: ${text(said.error || said.reason)}`, "bad");
    },
    dropped(said) {
      tell(`${many(number(said.dropped), "event")} left out here: more came than this page could be told`);
    },
  };

  function connect() {
    clearTimeout(retryTimer);
    if (source) source.close();
    const mine = new EventSource("/events");
    source = mine;
    heardAt = performance.now();
    for (const [name, does] of Object.entries(on)) {
      mine.addEventListener(name, (event) => {
        if (source !== mine) return;
        heardAt = performance.now();
        state.events += 1;
        if (state.connection !== "connected") {
          state.connection = "connected";
          failures = 0;
          showState();
        }
        does(JSON.parse(event.data));
      });
    }
    mine.onerror = () => {
      if (source === mine) lose();
    };
  }

  function lose() {
    if (source) source.close();
    source = null;
    state.connection = "lost";
    state.joined = null;
    const wait = RETRY[Math.min(failures, RETRY.length - 1)] * (0.8 + 0.4 * Math.random());
    failures += 1;
    retryAt = performance.now() + wait;
    clearTimeout(retryTimer);
    retryTimer = setTimeout(connect, wait);
    countDown();
    showState();
  }

  function countDown() {
    if (state.connection !== "lost") return;
    const left = Math.ceil((retryAt - performance.now()) / 1000);
    put($("lost-text"), left > 0 && !source ? `What is shown is old. Trying again in ${left} s.` : "What is shown is old. Trying …");
  }

  setInterval(() => {
    countDown();
    if (source && performance.now() - heardAt > SILENCE) lose();
    // Who is gone is forgotten, even if nothing else happens.
    for (const node of mesh.nodes.values()) {
      if (node.gone && performance.now() - node.gone > FADE) {
        mesh.change();
        if (picture.chosen && !mesh.nodes.has(picture.chosen.id)) picture.choose(null);
        showNodes();
        picture.wake();
        break;
      }
    }
  }, 1000);

  // --- everything together ----------------------------------------------------------------------

  const legend = $("legend");
  const legendWas = kept.get("localStorage", "py2p-legend");
  legend.open = legendWas ? legendWas === "open" : window.innerWidth >= 1200 && window.innerHeight >= 760;

  const mesh = new Mesh();
  const picture = new Picture($("topology"), mesh);
  picture.onChoose = () => {
    showDetails();
    showNodes();
  };

  const themes = ["auto", "light", "dark"];
  function setTheme(name) {
    const theme = themes.includes(name) ? name : "auto";
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    put($("theme"), `◐ ${theme}`);
    $("theme").setAttribute("aria-label", `Colours: ${theme}`);
    kept.set("localStorage", "py2p-theme", theme === "auto" ? "" : theme);
    picture.recolour();
  }
  $("theme").addEventListener("click", () => setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme || "auto") + 1) % 3]));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => picture.recolour());
  still.addEventListener("change", () => picture.wake());
  setTheme(kept.get("localStorage", "py2p-theme") || "auto");

  legend.addEventListener("click", () => setTimeout(() => picture.resize(), 0));
  legend.addEventListener("toggle", () => kept.set("localStorage", "py2p-legend", legend.open ? "open" : "closed"));

  $("zoom-in").addEventListener("click", () => picture.zoom(1.35));
  $("zoom-out").addEventListener("click", () => picture.zoom(1 / 1.35));
  $("fit").addEventListener("click", () => picture.fit());
  $("details-close").addEventListener("click", () => picture.choose(null));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && picture.chosen) picture.choose(null);
  });

  const tabs = [$("tab-nodes"), $("tab-peers")];
  function showTab(tab) {
    for (const one of tabs) {
      one.setAttribute("aria-selected", String(one === tab));
      one.tabIndex = one === tab ? 0 : -1;
      $(one.getAttribute("aria-controls")).hidden = one !== tab;
    }
  }
  for (const tab of tabs) {
    tab.addEventListener("click", () => showTab(tab));
    tab.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const next = tabs[1 - tabs.indexOf(tab)];
      showTab(next);
      next.focus();
    });
  }

  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    put($("pause"), paused ? "go on" : "pause");
    showMessages();
  });

  $("send").addEventListener("submit", (event) => {
    event.preventDefault();
    const said = $("send-text").value;
    if (!token) setToken($("token").value);
    else if (said && !sending && !$("send-button").disabled) send([said], $("send-confirm").checked);
  });
  $("unlock").addEventListener("click", () => setToken($("token").value));
  $("token").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    setToken($("token").value);
    $("send-text").focus();
  });
  $("lock").addEventListener("click", () => setToken(""));
  $("retry").addEventListener("click", connect);
  window.addEventListener("online", () => state.connection === "lost" && connect());
  window.addEventListener("hashchange", takeToken);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    picture.wake();
    if (state.connection === "lost" && !source) connect();
  });

  takeToken();
  showState();
  connect();

  /* For tests and the curious: copies, nothing that could be changed. */
  const face = {
    get nodes() {
      const box = picture.canvas.getBoundingClientRect();
      return [...mesh.nodes.values()].map((node) => {
        const [x, y] = Number.isNaN(node.x) ? [NaN, NaN] : picture.at(node);
        return Object.freeze({
          id: node.id,
          kind: node.kind,
          state: stateOf(node),
          address: node.address || null,
          hops: node.hops ?? null,
          rtt: node.rtt ?? null,
          degree: node.degree,
          x: box.left + x,
          y: box.top + y,
        });
      });
    },
    get links() {
      return mesh.current.map((link) => Object.freeze({ a: link.a.id, b: link.b.id, own: link.own, fresh: performance.now() - link.born < GLOW }));
    },
    get state() {
      return Object.freeze({
        connection: state.connection,
        joined: state.joined,
        id: mesh.own,
        reconnects: state.reconnects,
        events: state.events,
        surveys: mesh.surveys,
        messages: shown,
        waves: picture.wavesShown,
        dots: picture.dots.length,
        frames: picture.frames,
        frameMilliseconds: picture.busy,
        settled: !picture.layout.warm,
        unlocked: Boolean(token),
      });
    },
  };
  Object.defineProperty(window, "py2p", { value: Object.freeze(face), writable: false, configurable: false });
})();
