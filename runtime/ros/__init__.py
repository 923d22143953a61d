"""Nodes for ROS 1 and ROS 2, and the parts they share, which need neither."""
