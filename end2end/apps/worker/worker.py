"""Sorts letters for ever, and says so; listens nowhere."""

import itertools
import time

for sorted_so_far in itertools.count(1):
    print(f"letter {sorted_so_far} is sorted", flush=True)
    time.sleep(2)
