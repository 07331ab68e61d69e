"""The command line: a small file for each family of commands, and the one place where errors become messages.

A family is a module with an ``app`` from `kbsync.cli.options.family`; its commands are functions decorated with
`kbsync.cli.options.command`, and one line in `kbsync.cli.main` adds it. A command parses, calls one workflow and hands
the result to `kbsync.report`; it imports the workflow inside, so that ``--help`` and ``pull`` never load torch.
"""
