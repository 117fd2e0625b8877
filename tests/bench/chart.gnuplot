# Draws the comparison of relays as an SVG: a panel for each load, a bar for each relay. tests/bench/run
# sets `table` (a file in the form that chart.jq writes), `caption` and `chart` (the file to write), and
# replaces the colours by the classes of a style sheet: change them in both places.
set datafile separator tab
stats table using 2 nooutput
rows = STATS_records
height = 86 + 20 * rows
set terminal svg size 900,height dynamic font "sans-serif,12" linewidth 1 background "#ffffff"
set output chart

array title[5] = ["geometric mean\nof nine loads", "bulk,\n1 stream up", "request/response,\n1 connection", \
                  "1000 connections,\nmessages of 1 KiB", "connection per request,\n16 at a time"]
set style fill solid noborder
unset key
unset border
unset ytics
unset xtics
set xrange [0:1.3]
set yrange [rows - 0.5:-0.5]
set tmargin at screen 1 - 42.0 / height
set bmargin at screen 36.0 / height

left(panel) = 0.19 + 0.162 * (panel - 1)
is_ours(row) = stringcolumn(1) eq "portfwd"
bar(value) = value > 1 ? 1 : value  # a short run can measure more than the direct connection
set multiplot
set label 99 caption at screen 0.5, screen 14.0 / height center font ",11" textcolor rgb "#202020"
do for [panel = 1:5] {
  set lmargin at screen left(panel)
  set rmargin at screen left(panel) + 0.15
  set label 1 title[panel] at graph 0, screen 1 - 16.0 / height left textcolor rgb "#202020"
  plot table using (0):0:(0):(1):($0 - 0.36):($0 + 0.36) with boxxyerror lc rgb "#e4e4e4", \
       table using (0):0:(0):(is_ours(0) ? bar(column(panel + 1)) : 0):($0 - 0.36):($0 + 0.36) \
         with boxxyerror lc rgb "#0060a0", \
       table using (0):0:(0):(is_ours(0) ? 0 : bar(column(panel + 1))):($0 - 0.36):($0 + 0.36) \
         with boxxyerror lc rgb "#909090", \
       table using (1):0:(sprintf("%.2f", column(panel + 1))) with labels left offset 0.5,0 tc rgb "#202020", \
       table using (0):0:(panel == 1 ? stringcolumn(1) : "") \
         with labels right offset -0.7,0 tc rgb "#202020"
  unset label 99
}
unset multiplot
