"""Codecs: nuclei to training targets and network output to nuclei, one file each."""
