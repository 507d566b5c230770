"""Tmp."""


def write_page(folder, lines):
    pass
