"""
Networks of the very nodes that ship, on a virtual clock.

Ten thousand nodes in one process, and every run of a seed the same, byte for byte. Nodes are
killed, cut off, suspended and slowed down at will; a history tells what reached whom, when
and how often, and whether that was right.

>>> from py2p_twisted.simulation import Simulation
>>> sim = Simulation(seed=7)
>>> nodes = sim.build(16)
>>> storm = sim.send(nodes[3], "storm", "north")
>>> sim.run(1)
>>> storm.count
15
>>> sim.kill(nodes[8:])
>>> sim.run(5)
>>> later = sim.send(nodes[3], "all clear")
>>> sim.run(1)
>>> sim.history.figures([later]).coverage
100.0
>>> sim.history.check()
[]

===============  ================================================================================
``timeline``      virtual time: a heap of events
``wires``         connections as TCP makes them, and how they end
``machine``       a machine with one process on it
``host``          the driver of the core's nodes
``plain``         a model of plain py2p 0.6 nodes
``network``       `Simulation`: machines, wires, faults
``history``       what happened, in figures, and what of it was wrong
``scenarios``     kills, cuts, churn and the rest, with the figures they come to
``randomized``    histories of random faults
===============  ================================================================================
"""

from py2p_twisted.simulation.history import Figures, History, Sent
from py2p_twisted.simulation.host import Host
from py2p_twisted.simulation.machine import Machine
from py2p_twisted.simulation.network import Simulation

__all__ = ["Figures", "History", "Host", "Machine", "Sent", "Simulation"]
