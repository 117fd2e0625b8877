# A result of tests/bench/run as a table of ratios to direct connections: a line for each load, a
# column for each relay. Relays of Unix paths have a table of their own.
def in_order(key): map(key) | reduce .[] as $k ([]; if index([$k]) then . else . + [$k] end);

[.figures[] | select(.relay)] | group_by(.relay | contains(", Unix"))[]
| in_order(.relay) as $relays
| in_order(.load) as $loads
| (map({key: "\(.relay)/\(.load)", value}) | from_entries) as $cells
| (["of direct"] + $relays), ($loads[] | . as $load | [$load] + [$relays[] | $cells["\(.)/\($load)"] // "-" | tostring])
| @tsv
