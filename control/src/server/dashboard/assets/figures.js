// Figures as people read them, and elements made without any HTML in texts.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'className') element.className = value;
    else if (name in element && name !== 'list') element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const digits = (value) => (value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0));

export function nanos(value) {
  if (value < 1e3) return `${value.toFixed(0)} ns`;
  if (value < 1e6) return `${digits(value / 1e3)} µs`;
  if (value < 1e9) return `${digits(value / 1e6)} ms`;
  return `${digits(value / 1e9)} s`;
}

export function bytes(value) {
  if (value < 1024) return `${value.toFixed(0)} B`;
  if (value < 1048576) return `${digits(value / 1024)} KiB`;
  if (value < 1073741824) return `${digits(value / 1048576)} MiB`;
  return `${digits(value / 1073741824)} GiB`;
}

export function many(value) {
  if (value < 10000) return value < 10 && value % 1 ? value.toFixed(1) : value.toFixed(0);
  if (value < 1e6) return `${digits(value / 1e3)} k`;
  return `${digits(value / 1e6)} M`;
}

export const clock = (unixNanos) => new Date(unixNanos / 1e6).toLocaleTimeString([], { hour12: false });

export function duration(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}

// A table that keeps the place where somebody scrolled to. Columns: [title, cell, class]; a cell is a text or an element.
export function table(into, columns, rows, empty) {
  if (rows.length === 0) {
    into.replaceChildren(make('p', { className: 'empty' }, empty));
    return;
  }
  const head = make('tr', {}, ...columns.map(([title, , className = '']) => make('th', { scope: 'col', className }, title)));
  const body = rows.map((row) =>
    make('tr', {}, ...columns.map(([, cell, className = '']) => {
      const value = cell(row);
      const plain = value === null || value === undefined ? '' : value;
      return make('td', { className }, plain instanceof Node ? plain : String(plain));
    })));
  const [top, left] = [into.scrollTop, into.scrollLeft];
  into.replaceChildren(make('table', {}, make('thead', {}, head), make('tbody', {}, ...body)));
  into.scrollTop = top;
  into.scrollLeft = left;
}
