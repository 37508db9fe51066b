"""Load for Track on this machine, and the proof that every acknowledged hit was counted.

The package is a black box client: it speaks HTTP and knows nothing of the services' code, so that it cannot share
their mistakes. From pure to outside:

* ``histogram``, ``schedule``, ``mix``, ``tally``, ``verdict``: pure. Latencies; when to send; what to send; what became
  of it; whether the counts agree.
* ``target``, ``connection``, ``client``: where to, one HTTP/1.1 connection, a few of them with ``await``.
* ``load``, ``reading``, ``freshness``: the spam, the counts, how soon a hit is countable.
* ``plan``, ``benchmark``, ``report``, ``progress``: one measurement from first read to verdict, and how it is told.
* ``suite`` with ``parts``, ``bare``, ``ceiling``, ``processes``, ``comparison``: all parts side by side, in one run.
"""
