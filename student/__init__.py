"""The fusion student, and how it is trained. Runs on a workstation; needs torch."""
