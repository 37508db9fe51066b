"""Scalers beside each other on the same made-up loads: ours, KEDA's ways, and what people often do instead.

    .venv/bin/python -m tools.simulator    writes the tables and the figure of docs/simulation.md

It shows directions, not promises: an indexer here is a number of hits a second, a pod takes about twenty seconds to
start, and Elasticsearch is a ceiling. What it holds fast is how scalers compare on exactly the same load, with the code
that the operator runs. The same code draws the same figures each time.

    loads.py      what arrives each second, and what Elasticsearch takes
    plant.py      the queue, the pods and what can be read of them, second by second
    scalers.py    who looks when, at which numbers, and wants how many
    hpa.py        what Kubernetes' HorizontalPodAutoscaler makes of that
    runs.py       one scaler on one load, and what came of it
    report.py     the tables;  figure.py  the figure
"""
