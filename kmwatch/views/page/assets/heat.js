// With which GFP flags memory was asked for, and where the CPU was; what may sleep where it must not.

const MOST_FLAGS = 24; // rows; the others are one
const HEAT_FOOT = 116; // px, for the names of contexts

/** Cells by flags and context, the busiest flags last, and what may sleep where that is a bug. */
function heatCells(model, range) {
  const totals = new Map();
  const contexts = new Map();
  const used = model.sites.filter((site) => range.sums.count[site.index] > 0 && (site.counted_once || site.mapping));
  for (const site of used) {
    totals.set(site.gfp, (totals.get(site.gfp) ?? 0) + range.sums.count[site.index]);
    contexts.set(site.context, site.atomic);
  }
  const flags = [...totals].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const named = new Set(flags.slice(0, MOST_FLAGS));
  const others = flags.length > MOST_FLAGS ? [`${flags.length - MOST_FLAGS} others`] : [];
  const rows = [...flags.slice(0, MOST_FLAGS), ...others].reverse();
  const columns = [...contexts].sort((a, b) => a[1] - b[1] || a[0].localeCompare(b[0])).map(([name]) => name);
  const cells = new Map();
  for (const site of used) {
    const row = rows.indexOf(named.has(site.gfp) ? site.gfp : others[0]);
    const column = columns.indexOf(site.context);
    const cell = cells.get(`${row},${column}`) ?? { row, column, count: 0, impossible: 0 };
    cell.count += range.sums.count[site.index];
    if (site.sleeping) cell.impossible += range.sums.count[site.index];
    cells.set(`${row},${column}`, cell);
  }
  return { rows, columns, cells: [...cells.values()] };
}

function heatOption({ rows, columns, cells }, width) {
  const narrow = width < 600;
  const room = (width - (narrow ? 138 : 338)) / columns.length;
  const slanted = columns.some((name) => name.length * 6.5 > room);
  const axis = axisStyle();
  const names = { ...axis.axisLabel, overflow: "truncate", interval: 0, hideOverlap: false };
  const most = Math.max(...cells.map((cell) => cell.count));
  const depth = (count) => Math.log10(count + 1);
  return {
    aria: told(`Allocations by ${rows.length} sets of GFP flags and ${columns.length} contexts`),
    grid: { left: narrow ? 130 : 330, right: 8, top: 8, bottom: slanted ? HEAT_FOOT : 30 },
    xAxis: {
      ...axis,
      type: "category",
      data: columns.map((name) => plain(name, 60)),
      axisLabel: { ...names, rotate: slanted ? 40 : 0, width: 150 },
    },
    yAxis: {
      ...axis,
      type: "category",
      data: rows.map((name) => plain(name, 120)),
      axisLabel: { ...names, width: narrow ? 120 : 316 },
    },
    visualMap: {
      show: false,
      min: 0,
      max: depth(most),
      dimension: 2,
      inRange: { color: [colour("heat-low"), colour("heat-high")] },
    },
    tooltip: tooltip(({ data }) => {
      const { row, column, count, impossible } = data.cell;
      const sleeps = impossible ? `\n${number(impossible)} may sleep where they must not` : "";
      return `${plain(rows[row], 120)}\n${plain(columns[column], 60)}\n${number(count)} times${sleeps}`;
    }),
    series: [
      {
        type: "heatmap",
        label: { show: true, fontSize: 11, formatter: ({ data }) => heatLabel(data.cell, room) },
        emphasis: { disabled: true },
        data: cells.map((cell) => ({
          value: [cell.column, cell.row, depth(cell.count)],
          cell,
          label: { color: cell.impossible || depth(cell.count) > depth(most) * 0.55 ? colour("on-heat") : colour("ink") },
          itemStyle: cell.impossible
            ? { color: colour("bad"), borderColor: colour("ink"), borderWidth: 2 }
            : { borderColor: colour("paper"), borderWidth: 1 },
        })),
      },
    ],
  };
}

/** As much as there is room for, in px. */
function heatLabel({ count, impossible }, room) {
  if (impossible) return room < 80 ? "⚠" : `${short(count)} ⚠ sleeps`;
  return room < 36 ? "" : short(count);
}

function drawHeat(model, range) {
  let shape = heatCells(model, range);
  const said = byId("heat-impossible");
  const say = () => {
    const wrong = model.sites.reduce((sum, site) => sum + (site.sleeping ? range.sums.count[site.index] : 0), 0);
    said.dataset.value = wrong;
    said.className = wrong ? "bad" : "";
    said.textContent = wrong
      ? `⚠ ${number(wrong)} allocations may sleep where the CPU is atomic: red below, with this sign.`
      : "No allocation may sleep where the CPU is atomic.";
  };
  const height = () => shape.rows.length * 26 + HEAT_FOOT + 10;
  const draw = chart("heat-chart", height, (width) => {
    shape = heatCells(model, range);
    return shape.cells.length ? heatOption(shape, width) : "No allocation in this span.";
  });
  range.listen(() => {
    say();
    draw();
  });
  say();
}
