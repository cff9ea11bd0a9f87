"""DataHub's crawler for Omni, as its own command runs it, into a file; then what is in the file.

    crawler.py URL FOLDER
"""

import json
import subprocess
import sys
from pathlib import Path

url, folder = sys.argv[1], Path(sys.argv[2])
recipe, found = folder / "recipe.yaml", folder / "found.json"
config = {
    "base_url": f"{url}/api",
    "api_key": "dummy-key-of-a-client",
    "include_workbook_only": True,
    "max_workers": 20,
}
# JSON is YAML.
sink = {"type": "file", "config": {"filename": str(found)}}
recipe.write_text(json.dumps({"source": {"type": "omni", "config": config}, "sink": sink}))
command = [sys.executable, "-m", "datahub", "ingest", "run", "--no-default-report"]
command += ["--strict-warnings", "-c", str(recipe)]
done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
print(done.stdout)
if done.returncode != 0:
    sys.exit(f"the crawler ended with {done.returncode}")
# It tries again after a 429 or a 5xx, and says so.
if "as it raised" in done.stdout:
    sys.exit("the crawler was refused something")

written = json.loads(found.read_text())
names = {entity["entityUrn"] for entity in written}


def count(what, wanted, *marks):
    got = sum(all(mark in name for mark in marks) for name in names)
    if got != wanted:
        sys.exit(f"{what}: {got}, not {wanted}")
    print(f"{what}: {got}")


omni = "urn:li:dataset:(urn:li:dataPlatform:omni,"
count("dashboards", 300, "urn:li:dashboard:")
# Two tiles on every other document.
count("charts", 300, "urn:li:chart:")
count("connections", 3, f"{omni}connection.")
count("models", 12, f"{omni}model.")
count("folders", 120, f"{omni}folder.")
# Two topics of each model, with three views.
count("topics", 24, omni, ".topic.")
for view in ("orders", "customers", "products"):
    count(f"views of {view}", 12, omni, f".{view},PROD)")
text = json.dumps(written)
for table in ("orders", "customers", "products"):
    if f"urn:li:dataPlatform:postgres,analytics.public.{table}," not in text:
        sys.exit(f"{table} is nowhere named as a source")
if "urn:li:corpuser:" not in text:
    sys.exit("nobody owns anything")
if "dummy" in text:
    sys.exit("the key was written")
print("all of it holds")
