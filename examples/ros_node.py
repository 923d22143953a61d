"""A custom ROS 1 node: fuses two topics and publishes JPEG on ``fused/compressed``, for a slow link.

python examples/ros_node.py infrared:=/lepton/image visible:=/camera/image _engine:=student.engine
"""

import cv2
import message_filters
import rospy
from sensor_msgs.msg import CompressedImage, Image

from irvis.runtime.ros.image_message import to_array
from irvis.runtime.ros.node import FusionCore, ignoring_shutdown, synchronise
from irvis.runtime.ros.settings import Settings


def compressed(fused):
    _, jpeg = cv2.imencode(".jpg", to_array(fused), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return CompressedImage(header=fused.header, format="jpeg", data=jpeg.tobytes())


def main():
    # rospy's own Ctrl-C handler would close the topics from within publish, and wait forever for publish's lock.
    rospy.init_node("fused_jpeg", disable_signals=True)
    publisher = rospy.Publisher("fused/compressed", CompressedImage, queue_size=1)
    core = FusionCore(
        Settings(engine=rospy.get_param("~engine", "")),
        new_message=Image,
        publish=ignoring_shutdown(lambda fused: publisher.publish(compressed(fused)), rospy.is_shutdown),
        now_s=rospy.get_time,
        report=lambda report: rospy.loginfo("%s: %s", report.level, report.message),
        warn=rospy.logwarn,
    )
    rospy.on_shutdown(core.stop)
    infrared, visible = (message_filters.Subscriber(name, Image, buff_size=1 << 24) for name in ("infrared", "visible"))
    synchronise(message_filters, infrared, visible, core)
    try:
        core.run()
    except KeyboardInterrupt:
        pass
    finally:
        rospy.signal_shutdown("done")


if __name__ == "__main__":
    main()
