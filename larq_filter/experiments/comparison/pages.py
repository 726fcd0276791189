"""The page of a comparison: the best method, whether seeds tell it from the next, all numbers."""

import json
import sys
from collections.abc import Mapping, Sequence

from larq_filter.experiments import html_pages, run_folder, tables
from larq_filter.experiments.comparison import report
from larq_filter.experiments.comparison.summaries import Summary, difference, knobs_used


def page(
    summaries: Sequence[Summary],
    title: str,
    notes: Sequence[str],
    figures: Mapping,
    why_none: str = "",
) -> str:
    """The page, in HTML.

    Args:
        summaries: from ``summarize``.
        title: the heading.
        notes: further lines on how the runs were made.
        figures: caption to figure.
        why_none: if there are none, the reason.
    """
    results, differences = report.rows(summaries)
    parts = {
        "Results": html_pages.table(results),
        "Differences": html_pages.table(differences),
        "How to read them": html_pages.notes(report.reading(summaries)),
        "Pictures": html_pages.pictures(figures, why_none),
        "How it was made": html_pages.notes(notes) + html_pages.table(_made(summaries)),
        "Hyperparameters": html_pages.table(
            [
                {
                    "method": each.method,
                    "used": tables.listed(used),
                    "reason": each.outcomes[0].job.reason,
                }
                for each, used in zip(summaries, map(knobs_used, summaries), strict=True)
            ]
        ),
    }
    mark, sentences = verdict(summaries)
    return html_pages.page(title, mark, sentences, parts)


def verdict(summaries: Sequence[Summary]) -> tuple[str, list[str]]:
    """The mark of the verdict, and its sentences.

    Args:
        summaries: by falling accuracy, from ``summarize``.
    """
    finished = [each for each in summaries if each.results]
    jobs = sum(len(each.outcomes) for each in summaries)
    done = sum(len(each.results) for each in summaries)
    missing = [f"{done} of {jobs} runs are finished."] if done < jobs else []
    missing += report.troubles(summaries)
    if not finished:
        return html_pages.BAD, ["There is no result.", *missing]
    best, *others = finished
    accuracy = report.accuracy(best)
    said = [f"{best.method} has the highest validation accuracy: {accuracy}."]
    if not others:
        return html_pages.UNSURE, [*said, "There is nothing to compare it with.", *missing]
    found = difference(best, others[0], "accuracy")
    if abs(found.mean) < 5e-5:  # with the four digits of the tables
        same = (
            f"{best.method} and {others[0].method} have the same validation accuracy: {accuracy}."
        )
        return html_pages.UNSURE, [same, *missing]
    above = f"{report.difference_text(found)} above {others[0].method}, the next one"
    if found.n < 2:
        clear, reading = False, "one seed says nothing about chance"
    elif found.low > 0:
        clear = True
        reading = "the interval is above zero. These runs chose both, so new seeds are the test"
    else:
        clear, reading = False, "the interval holds zero, so these seeds do not tell them apart"
    mark = html_pages.GOOD if clear and not missing else html_pages.UNSURE
    return mark, [*said, f"That is {above}: {reading}.", *missing]


def _made(summaries: Sequence[Summary]) -> list[dict]:
    """Config of all runs, versions and command, a row each."""
    config = run_folder.as_json(summaries[0].outcomes[0].job.config)
    shared = {name: value for name, value in config.items() if name not in ("method", "knobs")}
    seeds = {each.job.config.seed for summary in summaries for each in summary.outcomes}
    rows = {
        **shared,
        "seed": ", ".join(map(str, sorted(seeds))),
        "versions": ", ".join(f"{name} {text}" for name, text in run_folder.versions().items()),
        "command": " ".join(sys.argv),
    }
    return [
        {"": name, "value": value if isinstance(value, str) else json.dumps(value)}
        for name, value in rows.items()
        if value is not None
    ]
