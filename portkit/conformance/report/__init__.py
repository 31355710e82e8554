"""Reports: one journal in, `report.json`, `report.html`, `junit.xml`, `badge.svg` and a terminal summary out."""
