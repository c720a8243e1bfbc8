"""How the page looks: its style sheets and colours."""

from znn_dask.report.colours import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PINK,
    SKY,
    VERMILION,
)

SHARES = {"type-1": BLUE, "type-2": ORANGE, "forced": VERMILION, "idle": GRID}
PASSES = {
    "forward": BLUE,
    "backward": SKY,
    "kernel gradients": ORANGE,
    "updates": "#b37a00",
    "kernel FFTs": "#f3d27a",
    "loading": "#b8c2cc",
}  # type 1 in blue, type 2 in orange, as in schedules
SPECTRA = {"kernels": GREEN, "inputs": SKY, "gradients": PINK}
TRAINING, RAW, VALIDATION = BLUE, "#b9d8ea", VERMILION
MISSING, RUNNING, DONE = GRID, ORANGE, BLUE

PAGE = """
body{padding-left:0;padding-right:0}
.content{height:auto;max-width:1760px;margin:0 auto;padding:18px 24px 40px;box-sizing:border-box}
"""

CARD = {
    "background": "white",
    "border": f"1px solid {GRID}",
    "border-radius": "12px",
    "box-shadow": "0 1px 2px #1b242d10",
    "padding": "16px 20px 12px",
    "margin-bottom": "16px",
    "box-sizing": "border-box",
}

HEAD = f"""
:host{{font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
color:{INK}}}
.bk-clearfix{{width:100%}}
.top{{display:flex;align-items:baseline;gap:12px;flex-wrap:wrap}}
h1{{font-size:22px;margin:0 0 10px;letter-spacing:-.01em}}
h2{{font-size:17px;margin:0;letter-spacing:-.005em}}
.soft{{color:{MUTED}}}
.where{{color:{MUTED};font-size:13px;overflow-wrap:anywhere}}
.chip{{font-size:12px;font-weight:600;padding:1px 10px;border-radius:99px;background:{GRID};
color:{INK};align-self:center}}
.chip.running{{background:#d9ecf7;color:#00527f}}.chip.finished{{background:#d6f0e6;color:#00664a}}
.chip.failed,.chip.lost{{background:#fbe3d6;color:#9a3f00}}
.facts{{display:flex;flex-wrap:wrap;gap:6px 34px;margin:12px 0 10px}}
.fact .value{{font-size:22px;font-weight:650;letter-spacing:-.02em;line-height:1.2;
font-variant-numeric:tabular-nums;white-space:nowrap}}
.fact .value small{{font-size:13px;font-weight:500;color:{MUTED};letter-spacing:0}}
.fact .label{{font-size:12.5px;color:{MUTED};white-space:nowrap}}
.bar{{height:6px;border-radius:3px;background:{GRID};overflow:hidden;margin-bottom:6px}}
.bar i{{display:block;height:100%;background:{BLUE};border-radius:3px}}
.note{{color:#9a3f00;font-size:13px;margin:2px 0 4px}}
pre{{background:#eef2f5;border:1px solid {GRID};border-radius:8px;padding:10px 14px;
margin:6px 0 14px;overflow-x:auto;font:13px/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,
monospace}}
p{{margin:6px 0;max-width:80ch}}
table{{border-collapse:collapse;font-variant-numeric:tabular-nums}}
td{{padding:3px 20px 3px 0;font-size:13.5px;white-space:nowrap}}
.item{{white-space:nowrap;margin-left:12px}}
.item i{{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:5px;
vertical-align:-1px}}
.legend{{font-size:12.5px;color:{MUTED}}}
b.sub{{font-size:13.5px;font-weight:600}}
"""
