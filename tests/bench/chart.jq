# A result of tests/bench/run as the table that chart.gnuplot draws: a line for each relay, from the largest
# geometric mean to the smallest, with a column for each of these loads. Relays of Unix paths are left out.
["geometric mean", "up, 1 stream", "request/response, 1 connection", "1000 connections x 1 KiB",
 "connect-request-response-close, 16 at a time"] as $loads
| [.figures[] | select(.relay and (.relay | contains(", Unix") | not))]
| group_by(.relay)
| map((map({key: .load, value: .value}) | from_entries) as $cells
      | [.[0].relay] + [$loads[] | . as $load | $cells[$load] // error("no figure of \"\($load)\"")])
| sort_by(-.[1])[]
| @tsv
