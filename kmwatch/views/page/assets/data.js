// The data as kmwatch/views/page/packing.py packed it, unpacked once.

/** @typedef {{kind: string, site: string, module: string, id: string, index: number, sleeping: boolean}} Site */

/** Numbers that were kept as the step from the one before. @param {number[]} steps */
function fromSteps(steps) {
  let last = 0;
  return steps.map((step) => (last += step));
}

/** A column in which only what is not 0 was kept. @param {{steps: number[], values: number[]}} sparse */
function fromSparse(sparse, length) {
  const column = new Float64Array(length);
  fromSteps(sparse.steps).forEach((at, place) => (column[at] = sparse.values[place]));
  return column;
}

/** Columns to rows. */
function fromColumns(columns) {
  const [any] = Object.values(columns);
  return (any ? (any.at ?? any.values) : []).map((_, index) => {
    const row = {};
    for (const [name, { values, at }] of Object.entries(columns)) row[name] = values[at ? at[index] : index];
    return row;
  });
}

/** @returns {Site[]} */
function unpackSites(raw) {
  const sleeping = new Set(raw.sleeping);
  return fromColumns(raw.sites).map((row, index) => {
    const site = Object.assign(row, { id: raw.ids[index], index, sleeping: sleeping.has(index) });
    site.label = site.module ? `${site.site} [${site.module}]` : site.site;
    site.mapping = raw.mappings.includes(site.kind);
    return site;
  });
}

/** What each site did in each slice, by site, then slice. */
function unpackSlices(packed, sites) {
  const site = fromSteps(packed.site);
  const rows = { site, slice: packed.slice, count: packed.count };
  for (const name of ["failures", "opportunistic_failures"]) rows[name] = fromSparse(packed[name], site.length);
  for (const name of ["bytes_requested", "bytes_allocated"]) {
    const { units } = packed[name];
    rows[name] = fromSparse(packed[name], site.length);
    for (let at = 0; at < site.length; at += 1) rows[name][at] += units[site[at]] * rows.count[at];
  }
  rows.bytes_wasted = rows.bytes_allocated.map((value, at) =>
    sites[site[at]].mapping ? 0 : value - rows.bytes_requested[at],
  );
  return rows;
}

function unpackFlame(flame) {
  const { nodes, weights } = flame;
  const parent = fromSteps(nodes.parent);
  const values = {};
  for (const [name, sparse] of Object.entries(flame.values)) values[name] = fromSparse(sparse, parent.length);
  return {
    ...flame,
    nodes: { ...nodes, parent },
    values,
    weights: { ...weights, site: fromSteps(weights.site) },
  };
}

async function unpack() {
  const packed = document.getElementById("data").textContent.trim();
  const letters = atob(packed);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = letters.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const raw = JSON.parse(await new Response(stream).text());
  const sites = unpackSites(raw);
  const timeline = { ...raw.timeline, rows: unpackSlices(raw.timeline.sites, sites) };
  return { sites, timeline, flame: unpackFlame(raw.flame), findings: fromColumns(raw.findings) };
}
