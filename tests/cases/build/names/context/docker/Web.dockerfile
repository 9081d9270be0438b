
from busybox as web
copy . /ctx
run echo lower > /lower
workdir /ctx
cmd ls
