// The page of odmoe's server: a conversation, and what the server does meanwhile. No library, nothing from elsewhere.
'use strict';

const $ = id => document.getElementById(id);
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const SECONDS = 60; // that a chart shows

// ---- requests

function headers() {
  const key = sessionStorage.getItem('key');
  return key ? {'Content-Type': 'application/json', 'Authorization': 'Bearer ' + key} : {'Content-Type': 'application/json'};
}

async function ask(path, options) {
  const reply = await window.fetch(path, {...options, headers: headers()});
  if (reply.status === 401)
    $('key-form').hidden = false;
  if (!reply.ok) {
    const body = await reply.json().catch(() => null);
    throw new Error(body && body.error ? body.error.message : 'the server answered ' + reply.status);
  }
  return reply;
}

async function* events(reply) { // the data of each event of a stream
  const reader = reply.body.getReader(), decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done)
      return;
    text += decoder.decode(value, {stream: true});
    for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
      const line = text.slice(0, end);
      if (line.startsWith('data: ') && line !== 'data: [DONE]')
        yield JSON.parse(line.slice(6));
    }
  }
}

// ---- the conversation

const conversation = []; // what is sent with the next message
let running = null;      // an AbortController

function show(role, text) {
  const e = document.createElement('div');
  e.className = 'message ' + role;
  e.textContent = text;
  $('messages').append(e);
  return e;
}

function follow() { // the end stays in view, unless somebody has scrolled up
  const m = $('messages');
  if (m.scrollHeight - m.scrollTop - m.clientHeight < 80)
    m.scrollTop = m.scrollHeight;
}

function reasoningBefore(message) {
  const e = document.createElement('details');
  e.className = 'reasoning';
  const summary = document.createElement('summary');
  summary.textContent = 'Thinking';
  const text = document.createElement('span');
  e.append(summary, text);
  message.before(e);
  return text;
}

function setRunning(controller) {
  running = controller;
  $('send').disabled = controller !== null;
  $('stop').disabled = controller === null;
}

// Text that comes faster than frames is shown once a frame: laying out a long answer anew for each token takes more time than there is.
function painter(element) {
  let text = '', frame = 0;
  const paint = () => {
    frame = 0;
    element.textContent = text;
    follow();
  };
  return {
    add(more) {
      text += more;
      frame = frame || requestAnimationFrame(paint);
    },
    end() {
      cancelAnimationFrame(frame);
      paint();
    },
  };
}

async function answer(message) {
  const content = painter(message);
  let thought = null;
  const body = JSON.stringify({messages: conversation, stream: true});
  const reply = await ask('v1/chat/completions', {method: 'POST', body, signal: running.signal});
  try {
    for await (const e of events(reply)) {
      if (e.error)
        throw new Error(e.error.message);
      const delta = e.choices && e.choices[0] && e.choices[0].delta;
      if (!delta)
        continue;
      if (delta.reasoning_content) {
        thought = thought || painter(reasoningBefore(message));
        thought.add(delta.reasoning_content);
      }
      if (delta.content)
        content.add(delta.content);
    }
  } finally {
    content.end();
    if (thought)
      thought.end();
  }
}

async function send() {
  const text = $('prompt').value;
  if (!text.trim() || running)
    return;
  $('error').textContent = '';
  $('prompt').value = '';
  const mine = show('user', text), theirs = show('assistant', '');
  $('messages').scrollTop = $('messages').scrollHeight;
  conversation.push({role: 'user', content: text});
  setRunning(new AbortController());
  try {
    await answer(theirs);
    conversation.push({role: 'assistant', content: theirs.textContent});
  } catch (e) {
    const stopped = e.name === 'AbortError';
    if (!stopped)
      $('error').textContent = e.message;
    if (theirs.textContent) { // what came counts as the answer
      conversation.push({role: 'assistant', content: theirs.textContent});
    } else { // a message without an answer leaves the conversation
      conversation.pop();
      const thought = theirs.previousElementSibling;
      if (thought !== mine)
        thought.remove();
      mine.remove();
      theirs.remove();
      if (!$('prompt').value)
        $('prompt').value = text;
    }
  } finally {
    setRunning(null);
  }
}

$('form').addEventListener('submit', e => {
  e.preventDefault();
  send();
});
$('prompt').addEventListener('keydown', e => {
  if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) {
    e.preventDefault();
    send();
  }
});
$('stop').addEventListener('click', () => running && running.abort());
$('clear').addEventListener('click', () => {
  if (running)
    running.abort();
  conversation.length = 0;
  $('messages').replaceChildren();
  $('error').textContent = '';
});
$('key-form').addEventListener('submit', e => {
  e.preventDefault();
  sessionStorage.setItem('key', $('key').value);
  $('key').value = '';
  $('key-form').hidden = true;
  $('error').textContent = '';
  begin();
});

// ---- numbers

function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++)
    n /= 1024;
  return (n >= 100 || i === 0 ? n.toFixed(0) : n.toPrecision(3)) + ' ' + units[i];
}

const PARTS = [['weights', 'resident_bytes', 'weights that every token needs'], ['context', 'kv_bytes', 'keys and values of the sequences'],
  ['activations', 'activation_bytes', 'work space'], ['server', 'server_bytes', 'requests and replies'], ['prefixes', 'prefix_bytes', 'prompts kept for later'],
  ['other', 'other_bytes', 'tokenizer, indexes, reading'], ['cache', 'cache_bytes', 'experts in memory']];

function svg(name, attributes) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes))
    e.setAttribute(key, value);
  return e;
}

function showPlan(plan) {
  const bar = svg('svg', {viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true'});
  const table = document.createElement('table');
  let at = 0;
  for (const [part, member, what] of PARTS) {
    const n = plan[member];
    if (!n)
      continue;
    const width = 100 * n / plan.ram_bytes;
    bar.append(svg('rect', {x: at, y: 0, width, height: 10, class: 'part-' + part}));
    at += width;
    const row = table.insertRow(), swatch = svg('svg', {viewBox: '0 0 10 10', class: 'swatch', 'aria-hidden': 'true'});
    swatch.append(svg('rect', {width: 10, height: 10, class: 'part-' + part}));
    row.insertCell().append(swatch);
    row.insertCell().textContent = what;
    row.insertCell().textContent = bytes(n);
  }
  const all = table.insertRow();
  all.insertCell();
  all.insertCell().textContent = 'the budget';
  all.insertCell().textContent = bytes(plan.ram_bytes);
  $('plan').replaceChildren(bar, table);
}

const series = {hit: [], disk: [], stall: [], tps: []};

function draw(name, value, top, text) { // a further value; top: the scale's end, or null: the largest value shown
  const values = series[name], canvas = $('chart-' + name), c = canvas.getContext('2d'), {width, height} = canvas;
  values.push(value);
  if (values.length > SECONDS)
    values.shift();
  const scale = top || Math.max(...values, 1e-9);
  c.clearRect(0, 0, width, height);
  c.strokeStyle = css('--accent');
  c.lineWidth = 2;
  c.beginPath();
  values.forEach((v, i) => {
    const x = width * (i + SECONDS - values.length) / (SECONDS - 1), y = height - 3 - (height - 6) * Math.min(v / scale, 1);
    i ? c.lineTo(x, y) : c.moveTo(x, y);
  });
  c.stroke();
  $('value-' + name).textContent = text;
}

let last = null; // the statistics before

function showStats(s) {
  const now = performance.now() / 1000, t = s.stats;
  if (last) {
    const d = name => Math.max(t[name] - last.stats[name], 0), seconds = now - last.now;
    const fetched = d('cache_hits') + d('cache_misses'), busy = d('stall_seconds') + d('compute_seconds');
    const hit = fetched ? d('cache_hits') / fetched : series.hit.at(-1) || 0, stall = busy ? d('stall_seconds') / busy : 0;
    const read = d('bytes_read') / seconds, tokens = d('tokens') / seconds;
    draw('hit', hit, 1, (100 * hit).toFixed(0) + '%');
    draw('disk', read, null, bytes(read) + '/s');
    draw('stall', stall, 1, (100 * stall).toFixed(0) + '%');
    draw('tps', tokens, null, tokens >= 100 ? tokens.toFixed(0) : tokens.toPrecision(3));
  }
  last = {now, stats: t};
  $('queue').textContent = s.queue.running + ' running, ' + s.queue.queued + ' waiting';
}

// ---- the heat map

const CELL = 8; // pixels of an expert, at most
let experts = null;

function cellSize() {
  return {w: Math.max(Math.min(Math.floor(1280 / experts.experts), CELL), 1), h: CELL};
}

function colour(share) { // dark blue over red to yellow
  const x = Math.sqrt(share);
  return `rgb(${Math.round(255 * Math.min(1, 1.6 * x))}, ${Math.round(255 * Math.max(0, 1.5 * x - 0.5))}, ${Math.round(60 + 80 * (1 - Math.abs(2 * x - 0.6)) * (x < 0.8))})`;
}

function showExperts(e) {
  experts = e;
  const canvas = $('heat'), {w, h} = cellSize(), c = canvas.getContext('2d');
  if (canvas.width !== w * e.experts || canvas.height !== h * e.layers) {
    canvas.width = w * e.experts;
    canvas.height = h * e.layers;
  }
  canvas.dataset.layers = e.layers;
  canvas.dataset.experts = e.experts;
  const most = Math.max(1, ...e.uses.map(row => Math.max(...row)));
  for (let layer = 0; layer < e.layers; layer++)
    for (let expert = 0; expert < e.experts; expert++) {
      c.fillStyle = colour(e.uses[layer][expert] / most);
      c.fillRect(expert * w, layer * h, w, h);
      if (e.cached[layer][expert]) {
        c.fillStyle = '#ffffff';
        c.fillRect(expert * w + Math.floor(w / 2) - (w > 3), layer * h + h / 2 - 1, w > 3 ? 2 : 1, 2);
      }
    }
}

$('heat').addEventListener('mousemove', event => {
  if (!experts)
    return;
  const r = $('heat').getBoundingClientRect();
  const layer = Math.floor((event.clientY - r.top) / r.height * experts.layers), expert = Math.floor((event.clientX - r.left) / r.width * experts.experts);
  if (!experts.uses[layer] || experts.uses[layer][expert] === undefined)
    return;
  const text = `layer ${layer}, expert ${expert}: used ${experts.uses[layer][expert]} times, ${experts.hits[layer][expert]} times found in memory` +
    (experts.cached[layer][expert] ? '; there now' : '');
  $('heat').title = text;
  $('expert').textContent = text;
});

// ---- polling

const poll = (path, every, show) => {
  const once = async () => {
    if (document.visibilityState === 'visible' && $('key-form').hidden)
      await ask(path).then(r => r.json()).then(show).catch(() => {}); // a server that is gone shows in the chat
    setTimeout(once, every);
  };
  once();
};

let polling = false;
async function begin() {
  try {
    $('model').textContent = (await (await ask('v1/models')).json()).data[0].id;
    showPlan((await (await ask('stats')).json()).plan);
    if (!polling) {
      polling = true;
      poll('stats', 1000, showStats);
      poll('stats/experts', 2000, showExperts);
    }
  } catch (e) {
    $('error').textContent = e.message;
    if ($('key-form').hidden)
      setTimeout(begin, 2000); // it still loads
  }
}
begin();
