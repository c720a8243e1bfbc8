"""The report's style sheet."""

STYLE = """
:root{--bg:#f5f7f9;--card:#fff;--ink:#1b242d;--soft:#5a6672;--line:#dfe5ea;--accent:#0b6e99;
--top:#0d2a3a;--top2:#0b5c7d;--code:#eef2f5;--shadow:0 1px 2px #1b242d14,0 6px 20px #1b242d0d}
@media (prefers-color-scheme:dark){:root{--bg:#10161b;--card:#182027;--ink:#e6ebef;--soft:#9aa7b2;
--line:#2a353f;--accent:#5cbbe0;--top:#0a1a24;--top2:#0b415a;--code:#121a20;--shadow:none}
.paper{filter:brightness(.93)}}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.wide{max-width:1120px;margin:0 auto;padding:0 24px}
header{background:linear-gradient(120deg,var(--top),var(--top2));color:#fff;
padding:40px 0 84px}
.brand{margin:0 0 6px;font:600 13px/1 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;
letter-spacing:.06em;color:#9fd6ee}
h1{margin:0;font-size:clamp(26px,4.2vw,40px);line-height:1.15;letter-spacing:-.015em;
text-wrap:balance}
.lead{margin:12px 0 0;max-width:68ch;color:#d5e8f1;font-size:17px}
nav{display:flex;flex-wrap:wrap;gap:8px;margin-top:22px}
nav a{color:#e8f5fb;text-decoration:none;font-size:14px;padding:4px 12px;border-radius:99px;
background:#ffffff1c}
nav a:hover,nav a:focus-visible{background:#ffffff38}
main{margin-top:-52px!important}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:16px;
margin-bottom:24px}
.card,section{background:var(--card);border:1px solid var(--line);border-radius:14px;
box-shadow:var(--shadow)}
.card{padding:18px 20px}
.card p{margin:0}
.label{font-size:13.5px;color:var(--soft)}
.value{font-size:30px;line-height:1.25;font-weight:650;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.note{font-size:13px;line-height:1.4;color:var(--soft);margin-top:2px!important}
section{padding:26px 28px 28px;margin-bottom:24px;scroll-margin-top:16px}
h2{margin:0 0 8px;font-size:21px;letter-spacing:-.01em}
section p{max-width:82ch;margin:0 0 12px}
figure{margin:20px 0 0}
.paper{background:#fff;border:1px solid var(--line);border-radius:10px;padding:12px;
text-align:center}
.paper img{max-width:100%;height:auto;display:block;margin:0 auto}
figcaption{margin-top:8px;font-size:14px;line-height:1.5;color:var(--soft);max-width:90ch}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:15px;font-variant-numeric:tabular-nums}
th,td{padding:8px 14px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child{text-align:left;padding-left:2px}
thead th{color:var(--soft);font-weight:600;font-size:13.5px}
tbody th{font-weight:500}
tbody tr:last-child th,tbody tr:last-child td{border-bottom:0}
pre{margin:20px 0 0;padding:14px 18px;background:var(--code);border:1px solid var(--line);
border-radius:10px;overflow-x:auto;font:14px/1.7 ui-monospace,SFMono-Regular,Menlo,Consolas,
"DejaVu Sans Mono",monospace}
pre span::before{content:"$ ";color:var(--accent);user-select:none}
footer{padding-top:4px;padding-bottom:40px;color:var(--soft);font-size:13.5px}
@media (max-width:600px){.wide{padding:0 14px}section{padding:20px 16px}.value{font-size:26px}
.paper{padding:4px}.cards{grid-template-columns:repeat(2,1fr);gap:10px}.card{padding:14px}}
@media print{header{background:none;color:#000;padding:0 0 20px}main{margin-top:0!important}
.lead,.brand{color:#333}nav{display:none}section{break-inside:avoid}}
"""
