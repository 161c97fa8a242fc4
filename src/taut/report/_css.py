"""The page's style: one palette per scheme, tabular figures, nothing from elsewhere."""

from __future__ import annotations

LIGHT = """
  --paper: #ffffff; --ink: #1f2429; --muted: #5d6671; --rule: #d5dae0; --faint: #f5f6f8;
  --guide: #4f7cac; --weighted: #b5521b; --good: #2c7a4b; --fair: #9a6700; --poor: #b3261e; --open: #5d6671;
"""

DARK = """
  --paper: #15181c; --ink: #e3e6ea; --muted: #98a1ac; --rule: #363c44; --faint: #1c2025;
  --guide: #7fa8d6; --weighted: #ee9560; --good: #6cc48f; --fair: #dfb254; --poor: #f28b82; --open: #98a1ac;
"""

TONES = {"trusted": "good", "trusted after correction": "fair", "not trusted": "poor", "unverified": "open"}
MARKS = {"trusted": "✓", "trusted after correction": "≈", "not trusted": "✕", "unverified": "?"}

PAGE = f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
* {{ box-sizing: border-box; }}
body {{
  margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}}
h1 {{ margin: 0 0 1rem; font-size: 1.6rem; line-height: 1.25; font-weight: 650; overflow-wrap: anywhere; }}
h2 {{
  margin: 2.75rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--rule); font-size: 1.05rem; font-weight: 650;
}}
p {{ margin: .35rem 0; max-width: 48rem; }}
.muted {{ color: var(--muted); font-size: .875rem; }}
.verdict {{
  padding: .9rem 1.2rem 1rem; border-left: 5px solid var(--tone); border-radius: 3px;
  background: var(--faint); background: color-mix(in srgb, var(--tone) 9%, var(--paper));
}}
.verdict .level {{ color: var(--tone); font-weight: 700; font-size: 1.15rem; }}
.verdict .level span {{ display: inline-block; width: 1.5em; }}
.verdict ul {{ margin: .4rem 0 .2rem; padding-left: 1.2rem; }}
.verdict .advice {{ margin-top: .6rem; }}
.good {{ --tone: var(--good); }} .fair {{ --tone: var(--fair); }}
.poor {{ --tone: var(--poor); }} .open {{ --tone: var(--open); }}
.figures {{ display: flex; flex-wrap: wrap; gap: .9rem 1.5rem; margin: 1.3rem 0 0; }}
.figures dt {{ color: var(--muted); font-size: .8rem; }}
.figures dd {{ margin: 0; font-size: 1.05rem; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .17rem 0 .17rem 1.3rem; text-align: right; white-space: pre; font-weight: 400; }}
th:first-child, td:first-child {{ padding-left: 0; text-align: left; }}
thead th {{ color: var(--muted); font-size: .8rem; vertical-align: bottom; border-bottom: 1px solid var(--rule); }}
tbody tr:last-child > * {{ border-bottom: 1px solid var(--rule); }}
tbody th {{ font-weight: 500; }}
tr.kind td {{ color: var(--muted); font-size: .8rem; padding-top: .7rem; }}
tr.gap td {{ color: var(--muted); }}
tr.starts > * {{ padding-top: .55rem; }}
td svg {{ display: inline-block; width: 7.5rem; height: 1em; vertical-align: -.12em; }}
figure {{ margin: .8rem 0 0; overflow-x: auto; }}
figure svg {{ display: block; width: 100%; min-width: 38rem; height: auto; font-family: inherit; }}
.facts {{ display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.5rem; margin: .6rem 0; }}
.facts dt {{ color: var(--muted); }}
.facts dd {{ margin: 0; overflow-wrap: anywhere; }}
@media print {{
  :root {{ {LIGHT} }}
  body {{ padding: 0; max-width: none; font-size: 10.5pt; }}
  h2 {{ break-after: avoid; }}
  .verdict, figure, tr {{ break-inside: avoid; }}
  .verdict {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
  .scroll, figure {{ overflow: visible; }}
  figure svg {{ min-width: 0; }}
  table {{ font-size: 9pt; }}
}}
"""

# A notebook has a background of its own: colours are translucent or inherited; every rule stays inside the fragment.
NOTEBOOK = """
.taut-fit { line-height: 1.45; }
.taut-fit .verdict { padding: .5em .9em; border-left: 4px solid var(--tone); background: rgba(128, 128, 128, .08); }
.taut-fit .level { font-weight: 700; color: var(--tone); }
.taut-fit .level span { padding-right: .5em; }
.taut-fit .good { --tone: #3a9a62; } .taut-fit .fair { --tone: #b98412; }
.taut-fit .poor { --tone: #d8524a; } .taut-fit .open { --tone: #808891; }
.taut-fit ul { margin: .2em 0; padding-left: 1.4em; } .taut-fit p { margin: .2em 0; }
.taut-fit .muted, .taut-fit thead th, .taut-fit tr.kind td, .taut-fit tr.gap td { opacity: .68; }
.taut-fit table { border-collapse: collapse; border: 0; margin: .5em 0; font-variant-numeric: tabular-nums; }
.taut-fit table th, .taut-fit table td {
  padding: .12em 0 .12em 1.5em; border: 0; text-align: right; white-space: pre; font-weight: 400;
}
.taut-fit table tbody tr { background: none; }
.taut-fit table tr > :first-child { padding-left: 0; text-align: left; }
.taut-fit table thead tr > * { border-bottom: 1px solid rgba(128, 128, 128, .4); }
.taut-fit .figures { display: flex; flex-wrap: wrap; gap: .2em 1.6em; margin: .4em 0 0; }
.taut-fit .figures dt { display: inline; opacity: .68; font-weight: 400; }
.taut-fit .figures dd { display: inline; margin: 0 0 0 .5em; }
"""
