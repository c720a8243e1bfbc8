"""Scores: every number with its direction and what it says."""

from znn_dask.display.page import harmless, note, page, table
from znn_dask.segmentation.scores import Scores

_COLUMNS = ("score", "value", "better", "what it says")


@harmless
def scores_html(scores: Scores) -> str:
    """The table, and what was compared."""
    rows = [
        (
            *("adapted Rand error", f"{scores.adapted_rand_error:.4f}", "↓ 0"),
            "1 − F1 of precision and recall: pairs of voxels on which both do not agree",
        ),
        (
            *("    precision", f"{scores.precision:.4f}", "↑ 1"),
            "of pairs in one object, the share in one label; mergers lower it",
        ),
        (
            *("    recall", f"{scores.recall:.4f}", "↑ 1"),
            "of pairs in one label, the share in one object; splits lower it",
        ),
        (
            *("variation of information", f"{scores.vi:.3f} bits", "↓ 0"),
            "what one of both still leaves open about the other: split + merge",
        ),
        (
            *("    split", f"{scores.vi_split:.3f} bits", "↓ 0"),
            "H(objects | labels): cells in pieces",
        ),
        (
            *("    merge", f"{scores.vi_merge:.3f} bits", "↓ 0"),
            "H(labels | objects): objects of several cells",
        ),
    ]
    share = scores.foreground / scores.voxels if scores.voxels else 0.0
    return page(
        "Scores",
        table(_COLUMNS, rows, numbers=("value",)),
        note(
            f"{scores.objects:,} objects against {scores.labels:,} labels; "
            f"{scores.foreground:,} of {scores.voxels:,} voxels scored ({share:.0%} have a label), "
            f"{scores.unlabelled:,} of them in no object"
        ),
    )
