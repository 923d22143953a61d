"""The node for ROS 2 (Foxy, Humble): ``irvis ros2 --ros-args -r infrared:=/lepton/image -p engine:=my.engine``.

This module has not run on ROS 2 yet. Its handling of messages is in ``node`` and ``image_message``, which are tested
with messages of both releases; the names used of rclpy and message_filters were checked in the sources of both.
"""

import argparse
import dataclasses
import threading
from typing import Any, Dict, List

from irvis.runtime.errors import IrvisError, one_line
from irvis.runtime.ros import node
from irvis.runtime.ros.node import FusionCore, Report
from irvis.runtime.ros.settings import add_options, read_settings

MODULES = (
    "rclpy",
    "rclpy.exceptions",
    "rclpy.executors",
    "rclpy.qos",
    "message_filters",
    "sensor_msgs.msg",
    "diagnostic_msgs.msg",
    "std_msgs.msg",
)
HINT = (
    "`source /opt/ros/humble/setup.bash` (or foxy) after `sudo apt install ros-humble-ros-base "
    "ros-humble-message-filters ros-humble-diagnostic-msgs`"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis ros2``."""
    add_options(parser)
    parser.add_argument(
        "--ros-args",
        nargs=argparse.REMAINDER,
        default=[],
        help="for ROS, to the end: remappings such as -r infrared:=/lepton/image, parameters such as -p slop_s:=0.02",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis ros2`` until ROS or a signal ends it."""
    rclpy, exceptions, executors, qos, message_filters, images, diagnostics, standard = node.import_ros(MODULES, HINT)
    try:
        rclpy.init(args=["irvis", "--ros-args", *arguments.ros_args])
    except Exception as error:  # from the C extension, with a different name in each release
        raise IrvisError(f"ROS: {one_line(error)}") from error
    executor = executors.SingleThreadedExecutor()
    try:
        ros_node = rclpy.create_node(node.NAME, automatically_declare_parameters_from_overrides=True)
        settings = read_settings(parameters_of(ros_node), arguments)
        # Cameras publish as best effort, and a reliable subscriber receives nothing from those.
        infrared, visible = (
            message_filters.Subscriber(ros_node, images.Image, topic, qos_profile=qos.qos_profile_sensor_data)
            for topic in (settings.infrared_topic, settings.visible_topic)
        )
        # Reports name a silent topic as it is after remapping.
        settings = dataclasses.replace(
            settings, infrared_topic=infrared.sub.topic_name, visible_topic=visible.sub.topic_name
        )
        # Reliable, which suits both reliable and best-effort subscribers.
        fused = ros_node.create_publisher(images.Image, settings.fused_topic, 1)
        status = ros_node.create_publisher(diagnostics.DiagnosticArray, "/diagnostics", 1)
        clock = ros_node.get_clock()

        def publish_report(report: Report) -> None:
            header = standard.Header(stamp=clock.now().to_msg())
            status.publish(node.diagnostic_array(diagnostics, header, report))

        def is_shut_down() -> bool:
            return not rclpy.ok()

        core = FusionCore(
            settings,
            new_message=images.Image,
            publish=node.ignoring_shutdown(fused.publish, is_shut_down),
            now_s=lambda: clock.now().nanoseconds * 1e-9,
            report=node.ignoring_shutdown(publish_report, is_shut_down),
            warn=ros_node.get_logger().warning,
        )
        node.synchronise(message_filters, infrared, visible, core)
        executor.add_node(ros_node)
        failures: List[Exception] = []
        spins = (rclpy, executor, core, failures)
        spinning = threading.Thread(target=_spin, args=spins, name="irvis-spin", daemon=True)
        spinning.start()
        try:
            core.run()
        finally:
            rclpy.try_shutdown()  # ends the spinning
            spinning.join()
            ros_node.destroy_node()
        if failures:
            raise failures[0]
    except exceptions.NameValidationException as error:
        raise IrvisError(f"ROS: {one_line(error)}") from error
    finally:
        rclpy.try_shutdown()
    return 0


def parameters_of(ros_node: Any) -> Dict[str, Any]:
    """Return the parameters that a node was started with, without those of ROS itself, such as ``use_sim_time``."""
    found = ros_node.get_parameters_by_prefix("")
    return {name: parameter.value for name, parameter in found.items() if name != "use_sim_time" and "." not in name}


def _spin(rclpy: Any, executor: Any, core: FusionCore, failures: List[Exception]) -> None:
    """Pass messages to the core until ROS shuts down, then stop the core; store any other error in ``failures``."""
    try:
        executor.spin()
    except Exception as error:  # ExternalShutdownException, or an error from what the shutdown closed first
        if rclpy.ok():
            failures.append(error)
    finally:
        core.stop()
