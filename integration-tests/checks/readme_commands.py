"""Prints the commands of the README's code blocks marked `sh ci`, one a line."""

import pathlib
import re

readme = pathlib.Path(__file__).parents[2] / "README.md"
for block in re.findall(r"^```sh ci\n(.*?)^```", readme.read_text(), re.M | re.S):
    for line in block.splitlines():
        if line.strip() and not line.startswith("#"):
            print(line)
