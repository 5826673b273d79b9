package main

import (
	"context"
	"fmt"
	"os"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type pod struct {
	node   *node
	id     string
	config *cri.PodSandboxConfig
}

// newPod runs a pod with a network of its own and, unless the options say no, one host port.
func (n *node) newPod(ctx context.Context) (*pod, error) {
	number := n.number()
	name := fmt.Sprintf("loop-%d-%d", os.Getpid(), number)
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "bench"},
		Hostname:     "loop",
		LogDirectory: "/tmp/" + name,
		Linux:        &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: usual()}},
	}
	if !n.noHostPort {
		config.PortMappings = []*cri.PortMapping{{ContainerPort: 80, HostPort: int32(firstPort + number)}}
	}
	made, err := n.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return nil, err
	}
	return &pod{n, made.PodSandboxId, config}, nil
}

// create makes a container that runs `script` in a shell, with the limits and the profile of a usual one.
func (p *pod) create(ctx context.Context, script string) (string, error) {
	name := fmt.Sprintf("c%d", p.node.number())
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		// As a kubelet names it; CRI-O makes no container without.
		Image:   &cri.ImageSpec{Image: p.node.image, UserSpecifiedImage: p.node.image},
		Command: []string{"/bin/sh", "-c", script},
		LogPath: name + ".log",
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{
				CpuPeriod: 100000, CpuQuota: 100000, CpuShares: 1024, MemoryLimitInBytes: 256 << 20,
			},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: usual(),
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}
	request := &cri.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config}
	made, err := p.node.runtime.CreateContainer(ctx, request)
	if err != nil {
		return "", err
	}
	return made.ContainerId, nil
}

// usual namespaces: what the kubelet asks for where the pod's author said nothing.
func usual() *cri.NamespaceOption { return &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER} }

func (p *pod) stop(ctx context.Context) error {
	_, err := p.node.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id})
	return err
}

func (p *pod) remove(ctx context.Context) error {
	_, err := p.node.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id})
	return err
}
