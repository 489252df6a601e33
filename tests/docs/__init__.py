"""
What the documents say, tried out.

Python
------

Every Python block of README.md and of docs/ is run, page by page, as one session from top to
bottom. Nothing listens on a port and nobody sleeps: sockets and services get transports in
memory, waiting turns a clock, and after every statement all that can happen has happened.

A block is anything that Python code stands in: ``code-block:: python`` or ``pycon``, a literal
or doctest block with ``>>>``, a fence in Markdown, a ``literalinclude`` of a ``.py`` file. For
the rest there are comments, which the pages' readers do not see::

    .. no-run: why this cannot be run here
    .. no-live: why this cannot be run on real sockets
    .. session: the rest of the page begins anew

In Markdown they are ``<!-- no-run: ... -->``. The first two stand right before their block.
Expected output may leave out what differs from run to run as ``...``, as in doctest.

Nodes at addresses of the documentation ranges (192.0.2.7, node.example, ...) come into being
when they are dialled, and belong to the network of whoever dials.

Shell commands
--------------

Every command of README.md, those of bench/ and examples/, and docs/ is typed into a real terminal, page by page
from top to bottom, in a folder of the page's own.

``code-block:: console`` is what a reader sees. Lines that begin with ``$ `` are typed, and go on
behind a backslash, in a here-document, or in lines with ``> ``. The others are what comes back:
all of it, without gaps, but for ``...``, which stands for a part of a line, or by itself for any
number of lines. A traceback always has to be shown. Every command ends with status 0.
``code-block:: sh`` is typed line by line, and what comes back does not matter. Where the prompt is
``# ``, an administrator types; that is not run, and has to be excused.

Comments right before a block (``<!-- exits: 1 -->`` in Markdown) say what one cannot see::

    .. no-run: why this cannot be run here
    .. exits: 1
    .. terminal: second
    .. running: until it is told to stop
    .. typed: a line
    .. shows: first
    .. project: why the page is about the project's own files

* ``exits`` is the status of what ends last in the block.
* ``terminal`` names where it is typed; without one that is "first". Every terminal has a shell of
  its own, 100 columns wide; they share a folder and a home, which are empty at first.
* ``running``: the last command goes on running. It is waited for until it has shown what stands
  below it. That has to be something, but for ``running: silently, until ...``. What it shows while
  the page is about something else need not stand anywhere.
* In a later block for its terminal, or further down in the same one, a line ``^C`` or ``^D`` is that
  key, after which it has to end. After Ctrl-C the status may be 130, too, if ``exits`` does not say
  which. What is left running at the end of the page must end with Ctrl-C within ten seconds.
* ``typed`` announces a line of the block that is typed into the program that runs, once for every
  such line; what stands before it in its line is the program's prompt. The line has to appear, as
  terminals show what is typed.
* ``shows``: no commands; that terminal comes to show these lines within half a minute, because
  something has happened elsewhere. Such a block may have any language.
* ``project``: the page's folder is a copy of the project. So it is for each README.md.

A block with a ``:caption:`` that is a file's name (no spaces) is that file: it is written into the
folder, or the home if it begins with ``~/``, and a command further down has to use it. Blocks in
other languages, and included files, have to be files, or ``shows``, or excused.

Ports 44xx are others while a page is run if somebody on this machine has them, and are 44xx again
before they are compared. 192.0.2.x is 127.0.2.x, which is this machine: a node there listens where
the page has it listen. Other addresses for documents lead nowhere. ``py2p``, ``python`` and the like
are those of the environment that the tests run in.

Here
----

``blocks`` finds the blocks, ``stage`` runs those in Python, in memory. `tests.integration` runs the
tutorial once more, with real sockets, and every program of examples/. ``shell`` understands shell
blocks, and `tests.integration.shell_check` runs them.
"""
