// What kmalloc's classes add to what was asked for, and which sizes were asked for.

/** By class: requests by eighth, and the sums of the chosen slices. */
function classSums(model, range) {
  const { classes, sizes } = model.timeline;
  const sums = classes.map((each) => ({ ...each, count: 0, bytes_requested: 0, bytes_allocated: 0, fill: new Array(8).fill(0) }));
  sizes.slice.forEach((slice, at) => {
    if (slice < range.from || slice >= range.to) return;
    const sum = sums[sizes.class[at]];
    for (const name of ["count", "bytes_requested", "bytes_allocated"]) sum[name] += sizes[name][at];
    sizes.fill[at].forEach((count, eighth) => (sum.fill[eighth] += count));
  });
  return sums.filter((sum) => sum.count > 0);
}

function bytesOption(sums) {
  const bar = (name, values, style) => ({ type: "bar", stack: "bytes", name, data: values, barMaxWidth: 48, itemStyle: style });
  const axis = axisStyle();
  return {
    aria: told(`Bytes asked for and wasted in ${sums.length} size classes of kmalloc`),
    legend: { top: 0, right: 0, textStyle: { color: colour("ink") }, selectedMode: false },
    grid: { left: 68, right: 8, top: 30, bottom: 28 },
    xAxis: { ...axis, type: "category", data: sums.map((sum) => number(sum.size)) },
    yAxis: {
      ...axis,
      type: "value",
      axisLabel: { ...axis.axisLabel, formatter: (value) => size(value) },
      ...byteAxis(Math.max(...sums.map((sum) => sum.bytes_allocated)), 4),
    },
    tooltip: tooltip(
      ([{ dataIndex }]) => {
        const { size: of, count, bytes_requested: asked, bytes_allocated: got } = sums[dataIndex];
        const waste = `wasted ${size(got - asked)} (${percent(got - asked, got)})`;
        return `class of ${number(of)} B\n${number(count)} times\nasked for ${size(asked)}\n${waste}`;
      },
      { trigger: "axis", axisPointer: { type: "shadow" } },
    ),
    series: [
      bar("asked for", sums.map((sum) => sum.bytes_requested), { color: colour("one"), decal: BARE }),
      bar("wasted", sums.map((sum) => sum.bytes_allocated - sum.bytes_requested), { color: colour("bad"), decal: HATCH }),
    ],
  };
}

/** Requests by the largest size that their eighth has; one above its class is cut there. */
function requestBars(sums) {
  return sums.flatMap((sum, nth) =>
    sum.fill
      .map((count, eighth) => ({ count, of: sum.size, upto: Math.min((eighth + 1) * sum.eighth, sum.size), nth }))
      .filter((bar) => bar.count > 0),
  );
}

function requestsOption(bars) {
  const axis = axisStyle();
  return {
    aria: told(`Requests of ${bars.length} ranges of size`),
    grid: { left: 68, right: 8, top: 12, bottom: 28 },
    xAxis: { ...axis, type: "category", data: bars.map((bar) => `≤ ${number(bar.upto)}`) },
    yAxis: { ...axis, type: "value", splitNumber: 4, minInterval: 1, axisLabel: { ...axis.axisLabel, formatter: (value) => short(value) } },
    tooltip: tooltip(
      ([{ dataIndex }]) => {
        const { count, of, upto } = bars[dataIndex];
        return `up to ${number(upto)} B asked for\n${number(of)} B given\n${number(count)} times`;
      },
      { trigger: "axis", axisPointer: { type: "shadow" } },
    ),
    series: [
      {
        type: "bar",
        barCategoryGap: "15%",
        barMaxWidth: 48,
        data: bars.map((bar) => ({ value: bar.count, itemStyle: { color: colour(bar.nth % 2 ? "two" : "one"), decal: BARE } })),
      },
    ],
  };
}

function drawSizes(model, range) {
  const none = "No kmalloc in this span.";
  const bytes = chart("sizes-bytes", 240, () => {
    const sums = classSums(model, range);
    return sums.length ? bytesOption(sums) : none;
  });
  const requests = chart("sizes-requests", 200, () => {
    const bars = requestBars(classSums(model, range));
    return bars.length ? requestsOption(bars) : none;
  });
  range.listen(bytes);
  range.listen(requests);
}
