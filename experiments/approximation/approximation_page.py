"""tmp."""


def write_page(folder, settings):
    pass
