#!/usr/bin/env bash
# What `make test-system` needs of Debian 12 or Ubuntu 20.04 and later: OpenCV with GStreamer, an RTSP server, ROS 1, Chromium.
set -euo pipefail
packages="python3-venv python3-dev python3-opencv python3-gi gir1.2-gst-rtsp-server-1.0
  gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly gstreamer1.0-libav
  ros-core python3-rospy python3-message-filters python3-sensor-msgs python3-diagnostic-msgs
  chromium chromium-driver fonts-dejavu-core"
missing=$(for package in $packages; do dpkg -s "$package" >/dev/null 2>&1 || echo "$package"; done)
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
  echo "to be installed by root: apt-get install --no-install-recommends" $missing >&2
  exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
