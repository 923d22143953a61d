"""The fusion student, and how it is trained. Runs on a workstation; needs torch."""

import irvis.runtime  # noqa: F401  limits image sizes before any module imports OpenCV
