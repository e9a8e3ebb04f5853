"""Side-by-side measurements: what Beichen costs, what the field costs on the same machine in the same minute, and where the time goes.

Every figure is a record of ``results.jsonl`` (``records.py``); ``RESULTS.md`` is rendered from the records (``report.py``).
"""
