"""Reads the same figures in both formats by the parsers of Python's client, and holds them to be the same."""

import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic


def samples(families):
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in families
        for sample in family.samples
    }


def types(families):
    # The classic parser knows no info, and has it as the gauge that it is there.
    return {family.name: family.type for family in families}


old = list(classic(open(sys.argv[1]).read()))
new = list(open_metrics(open(sys.argv[2]).read()))
gone = samples(old) ^ samples(new)
if gone:
    sys.exit(f"not in both: {sorted(gone)[:10]}")
if types(old) != types(new):
    sys.exit(f"types differ: {sorted(set(types(old).items()) ^ set(types(new).items()))}")
print(f"{len(samples(new))} samples of {len(new)} metrics, in both formats alike")
