"""The node for ROS 1 (Noetic): ``irvis ros1 infrared:=/lepton/image visible:=/camera/image _engine:=my.engine``."""

import argparse
import dataclasses
import sys

from irvis.runtime.errors import IrvisError, one_line
from irvis.runtime.ros import node
from irvis.runtime.ros.node import FusionCore, Report
from irvis.runtime.ros.settings import add_options, read_settings

MODULES = ("rospy", "rosgraph", "message_filters", "sensor_msgs.msg", "diagnostic_msgs.msg", "std_msgs.msg")
HINT = (
    "`source /opt/ros/noetic/setup.bash` after `sudo apt install ros-noetic-ros-base`; on Debian `sudo apt "
    "install ros-core python3-rospy` and a virtual environment made with --system-site-packages"
)
# Bytes. By default rospy reads 64 KiB at a time, and old frames wait in the socket, where no queue_size can drop them.
BUFFER = 1 << 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis ros1``."""
    add_options(parser)
    parser.add_argument(
        "ros_arguments",
        nargs="*",
        metavar="NAME:=VALUE",
        help="for ROS: remappings such as infrared:=/lepton/image, parameters such as _slop_s:=0.02, __name:=NAME",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis ros1`` until ROS or a signal ends it."""
    rospy, rosgraph, message_filters, images, diagnostics, standard = node.import_ros(MODULES, HINT)
    for argument in arguments.ros_arguments:
        if ":=" not in argument:
            raise IrvisError(f"ROS arguments must be NAME:=VALUE. Got {argument}")
    if not rosgraph.is_master_online():
        raise IrvisError(f"no ROS master at {rosgraph.get_master_uri()}; start `roscore` or set ROS_MASTER_URI")
    try:
        # rospy's Ctrl-C handler would run in this thread: inside publish, it would wait for ever for publish's lock.
        rospy.init_node(node.NAME, [sys.argv[0], *arguments.ros_arguments], disable_signals=True)
        settings = read_settings(rospy.get_param("~", {}), arguments)
        infrared, visible = (
            message_filters.Subscriber(
                topic, images.Image, queue_size=settings.queue_size, buff_size=BUFFER, tcp_nodelay=True
            )
            for topic in (settings.infrared_topic, settings.visible_topic)
        )
        # Reports name a silent topic as it is after remapping.
        infrared_topic, visible_topic = infrared.sub.resolved_name, visible.sub.resolved_name
        settings = dataclasses.replace(settings, infrared_topic=infrared_topic, visible_topic=visible_topic)
        fused = rospy.Publisher(settings.fused_topic, images.Image, queue_size=1)
        status = rospy.Publisher("/diagnostics", diagnostics.DiagnosticArray, queue_size=1)

        def publish_report(report: Report) -> None:
            header = standard.Header(stamp=rospy.Time.now())
            status.publish(node.diagnostic_array(diagnostics, header, report))

        core = FusionCore(
            settings,
            new_message=images.Image,
            publish=node.ignoring_shutdown(fused.publish, rospy.is_shutdown),
            now_s=rospy.get_time,
            report=node.ignoring_shutdown(publish_report, rospy.is_shutdown),
            warn=rospy.logwarn,
        )
        rospy.on_shutdown(core.stop)
        node.synchronise(message_filters, infrared, visible, core)
        rospy.loginfo("%s and %s to %s", infrared_topic, visible_topic, fused.resolved_name)
        core.run()
    except (rospy.ROSException, ConnectionError) as error:
        raise IrvisError(f"ROS: {one_line(error)}") from error
    finally:
        rospy.signal_shutdown("irvis ends")
    return 0
