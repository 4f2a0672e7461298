// What the pages of `--report` draw with: elements, figures, charts of WIDTH by HEIGHT with margins LEFT, RIGHT, TOP and BOTTOM.
const byId = id => document.getElementById(id);

function element(parent, name, attributes, text) {
  const made = name === 'svg' || parent instanceof SVGElement
    ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

/** A chart with ticks; gives the places of values. */
function chart(parent, name, { x, y, height = HEIGHT, left = LEFT }) {
  const svg = element(parent, 'svg', { viewBox: `0 0 ${WIDTH} ${height}`, role: 'img', 'aria-label': name });
  const place = (axis, from, to) => value => from + (value - axis.low) / ((axis.high - axis.low) || 1) * (to - from);
  const across = place(x, left, WIDTH - RIGHT), up = place(y, height - BOTTOM, TOP);
  for (const tick of y.ticks) {
    element(svg, 'line', { class: 'grid', x1: left, x2: WIDTH - RIGHT, y1: up(tick.at), y2: up(tick.at) });
    element(svg, 'text', { x: left - 6, y: up(tick.at) + 4, 'text-anchor': 'end' }, tick.text);
  }
  for (const tick of x.ticks) element(svg, 'text', { x: across(tick.at), y: height - BOTTOM + 15, 'text-anchor': tick.anchor || 'middle' }, tick.text);
  element(svg, 'line', { class: 'axis', x1: left, x2: WIDTH - RIGHT, y1: height - BOTTOM, y2: height - BOTTOM });
  if (x.name) element(svg, 'text', { x: (left + WIDTH) / 2, y: height - 3, 'text-anchor': 'middle' }, x.name);
  return { svg, across, up };
}

function figure(name, value, beside) {
  const box = element(byId('figures'), 'div', {});
  element(box, 'b', {}, value);
  element(box, 'span', {}, name);
  if (beside) element(box, 'div', { class: 'quiet' }, beside);
}
