"""The counter as a .tac file: VALKEY_URL=valkey://10.0.0.1:7000 PYTHONPATH=. twistd --nodaemon --python=counter.tac"""

from counter_service import Options, makeService
from twisted.application.service import Application

options = Options()
options.parseOptions([])
application = Application("counter")
makeService(options).setServiceParent(application)
