#!/usr/bin/env python3
"""Makes airports.ndjson from the airports.csv of the Python package `airportsdata`.

Usage: airports.py PATH/TO/airports.csv > airports.ndjson

One document a line: every airport that has an IATA code, which becomes its `_id`, in `_id` order.
Empty columns are left out, so that a field is either known or MISSING.
"""

import csv
import json
import sys


def document(row):
    fields = {
        "_id": row["iata"],
        "icao": row["icao"],
        "name": row["name"],
        "city": row["city"],
        "region": row["subd"],
        "country": row["country"],
        "tz": row["tz"],
    }
    fields = {name: text for name, text in fields.items() if text}
    fields["elevation_ft"] = round(float(row["elevation"]))
    fields["location"] = {"lat": float(row["lat"]), "lon": float(row["lon"])}
    return fields


def main():
    with open(sys.argv[1], encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["iata"]]
    rows.sort(key=lambda row: row["iata"])
    for row in rows:
        print(json.dumps(document(row), ensure_ascii=False, separators=(",", ":")))


main()
