// What the page uses of its libraries, as one global: `vendor`.
import flamegraph from "d3-flame-graph";
import { scaleLinear } from "d3-scale";
import { select } from "d3-selection";
import { area, line } from "d3-shape";
import { BarChart, HeatmapChart, LineChart } from "echarts/charts";
import {
  AriaComponent,
  BrushComponent,
  GridComponent,
  LegendComponent,
  TooltipComponent,
  VisualMapContinuousComponent,
} from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";

use([BarChart, HeatmapChart, LineChart, AriaComponent, BrushComponent, GridComponent, LegendComponent, TooltipComponent]);
use([VisualMapContinuousComponent, SVGRenderer]);

export { area, flamegraph, init, line, scaleLinear, select };
