"""From questions to a readout: the H-neuron pipeline of Gao et al. (arXiv 2512.01797), one module per stage.

    collect        questions -> sampled, judged answers        questions/ answers/ verdicts/
    spans          consistent answers -> the answer's tokens   spans/
    split          balanced roles that share nothing           split/
    capture        CETT per region in one memory-mapped store  capture/
    probe          sparse logistic readout, test opened once   probes/<name>/, its path/
    audit-readout  its confounds laid open                     its refits/ components/ audit/ verbosity/ report/
    neurons        its components one by one                   its neurons/

Every stage is a unit in one workspace folder: rows, a sidecar with its settings, and a key made of those settings and
of the content of the rows before it. Any stage may start from rows that another program made (`levercheck.interop`).
"""
