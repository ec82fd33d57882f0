"""Prometheus' text format, to the byte."""

from service.exposition import Counter, Histogram, gauge


def test_a_counter_counts_by_its_labels() -> None:
    """One line for each combination that was seen; what would end a value is escaped."""
    counter = Counter("seen_total", "What was seen.", ["kind", "name"])
    counter.add(2, "cat", 'a"b\\c\nd')
    counter.add(1, "dog", "")
    counter.add(3, "dog", "")
    assert counter.render() == (
        "# HELP seen_total What was seen.\n"
        "# TYPE seen_total counter\n"
        'seen_total{kind="cat",name="a\\"b\\\\c\\nd"} 2\n'
        'seen_total{kind="dog",name=""} 4\n'
    )


def test_a_histograms_buckets_hold_what_is_up_to_their_bound() -> None:
    """Cumulative, the bound included; the last one holds all; sum and count beside them."""
    histogram = Histogram("taken_seconds", "What it took.", (0.5, 1), ["stage"])
    for seconds in (0.25, 0.5, 0.75, 8):
        histogram.observe(seconds, "decode")
    assert histogram.render() == (
        "# HELP taken_seconds What it took.\n"
        "# TYPE taken_seconds histogram\n"
        'taken_seconds_bucket{stage="decode",le="0.5"} 2\n'
        'taken_seconds_bucket{stage="decode",le="1"} 3\n'
        'taken_seconds_bucket{stage="decode",le="+Inf"} 4\n'
        'taken_seconds_sum{stage="decode"} 9.5\n'
        'taken_seconds_count{stage="decode"} 4\n'
    )


def test_a_gauge_has_the_value_of_now() -> None:
    """Without labels there are no braces."""
    assert gauge("waiting", "What waits.", [({}, 3)]) == "# HELP waiting What waits.\n# TYPE waiting gauge\nwaiting 3\n"
