"""The formula for the number of indexers on made-up loads: regression tests, and the figure of docs/simulation.md.

    .venv/bin/python -m tools.simulator    writes the figure

It shows directions, not promises: an indexer here is a number of hits a second, a pod takes about twenty seconds to
start, and Elasticsearch is a ceiling. The formula is the product's own. The same code draws the same figure each time.

    loads.py      what arrives each second, and what Elasticsearch takes
    plant.py      the queue, the pods and what the ledger shows of them, second by second
    scaler.py     the formula, with bounds and a cooldown
    runs.py       one load, and what came of it
    figure.py     the figure;  svg.py  axes and lines
"""
