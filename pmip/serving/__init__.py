"""How one host keeps the newest usable version in service without a restart.

In: a store of versions. Out: the current scorer of this process, and the reason when it is not the newest version.
"""
