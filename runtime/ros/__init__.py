"""Nodes for ROS 1 and ROS 2, and the parts of them that need neither."""
